"""The losses of GRPO and its kin: as their formulas, as TRL's on the same batch, and the same under any cut."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from runner.algorithms.grpo import Grpo
from runner.core.types import Encoded
from runner.data.collate import collate
from runner.rollouts.correction import factors
from runner.training._predictions import head_of, predict
from tests.algorithms.sampled import answers
from tests.training import small

LIMIT = 20  # max_completion_length
KINDS: dict[str, dict[str, Any]] = {
    "dapo": {"loss_type": "dapo"},
    "grpo": {"loss_type": "grpo"},
    "bnpo": {"loss_type": "bnpo"},
    "dr_grpo": {"loss_type": "dr_grpo"},
    "clip higher": {"loss_type": "dapo", "epsilon": 0.1, "epsilon_high": 0.28},
    "two-sided": {"loss_type": "grpo", "delta": 1.5},
    "sequence ratio": {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 0.03},
    "beta": {"loss_type": "dapo", "beta": 0.1},
    "beta unweighed": {"loss_type": "grpo", "beta": 0.1, "use_bias_correction_kl": False},
    "temperature": {"loss_type": "dapo", "temperature": 0.7},
}
WITHOUT = {"on policy": ("old", "correction"), "as it was sampled": ("correction",), "corrected": ()}


def known(data: Sequence[Encoded], without: Sequence[str]) -> list[Encoded]:
    """The sequences without some of what is known of their tokens."""
    return [
        dataclasses.replace(one, per_token={k: v for k, v in one.per_token.items() if k not in without}) for one in data
    ]


def share(
    learner: Any, algorithm: Grpo, data: Sequence[Encoded], cut: Sequence[Sequence[int]], packed: bool = False
) -> Any:
    """Loss, gradient and figures of an update that is cut like this."""
    learner.zero_grad()
    totals: dict[str, float] = {}
    for one in data:
        for name, amount in algorithm.measure(one).items():
            totals[name] = totals.get(name, 0.0) + amount
    loss, figures = 0.0, dict[str, float]()
    for numbers in cut:
        micro = collate([data[i] for i in numbers], numbers, packed)
        part, told = algorithm.loss(predict(learner, head_of(learner), micro, algorithm.temperature), micro, totals)
        part.backward()
        loss += part.item()
        figures = {name: figures.get(name, 0.0) + value.item() for name, value in told.items()}
    gradient = torch.cat([p.grad.flatten() for p in learner.parameters() if p.grad is not None])
    return loss, gradient, figures


@pytest.mark.parametrize("without", WITHOUT.values(), ids=WITHOUT)
@pytest.mark.parametrize("keys", KINDS.values(), ids=KINDS)
def test_the_gradient_does_not_depend_on_the_cut(keys: dict[str, Any], without: tuple[str, ...]) -> None:
    learner, data = small.model(), known(answers(8, masked=(3,)), without)
    algorithm = Grpo(**keys, max_completion_length=LIMIT)
    whole = share(learner, algorithm, data, [range(8)])
    for cut, packed in (([[0, 1], [2], [3, 4, 5, 6, 7]], False), ([[i] for i in range(8)], False), ([range(8)], True)):
        part = share(learner, algorithm, data, cut, packed)
        assert part[0] == pytest.approx(whole[0], abs=1e-6)
        assert float((part[1] - whole[1]).norm() / whole[1].norm()) < 2e-6
        assert part[2] == pytest.approx(whole[2], abs=1e-6)


def by_hand(learner: Any, data: Sequence[Encoded], keys: dict[str, Any]) -> float:
    """The loss, token by token in plain numbers."""
    high = keys.get("epsilon_high") or keys.get("epsilon", 0.2)
    sums, counts = [], []
    for one in data:
        places = [i for i, label in enumerate(one.labels) if label != -100]
        if not places:
            sums.append(0.0)
            counts.append(0)
            continue
        with torch.no_grad():
            logits = learner(torch.tensor([one.input_ids])).logits[0] / keys.get("temperature", 1.0)
        new = [float(logits[i - 1].log_softmax(-1)[one.input_ids[i]]) for i in places]
        gaps = (
            [a - one.per_token["old"][i] for a, i in zip(new, places, strict=True)] if "old" in one.per_token else [0.0]
        )
        gaps = gaps if len(gaps) == len(places) else [0.0] * len(places)
        if keys.get("importance_sampling_level") == "sequence":
            gaps = [sum(gaps) / len(gaps)] * len(gaps)
        total, advantage = 0.0, one.values["advantage"]
        for place, value, gap in zip(places, new, gaps, strict=True):
            ratio = math.exp(gap)
            free = min(ratio, keys["delta"]) if "delta" in keys else ratio
            bound = min(max(ratio, 1 - keys.get("epsilon", 0.2)), 1 + high)
            loss = -min(free * advantage, bound * advantage)
            if "correction" in one.per_token:
                loss *= one.per_token["correction"][place]
            if keys.get("beta"):
                away = one.per_token["reference"][place] - value
                kl = math.exp(away) - away - 1
                loss += keys["beta"] * kl * (ratio if keys.get("use_bias_correction_kl", True) else 1.0)
            total += loss
        sums.append(total)
        counts.append(len(places))
    kind = keys["loss_type"]
    if kind == "grpo":
        return sum(s / max(n, 1) for s, n in zip(sums, counts, strict=True)) / len(data)
    return sum(sums) / (len(data) * LIMIT if kind == "dr_grpo" else sum(counts))


@pytest.mark.parametrize("without", WITHOUT.values(), ids=WITHOUT)
@pytest.mark.parametrize("keys", KINDS.values(), ids=KINDS)
def test_the_loss_is_its_formula(keys: dict[str, Any], without: tuple[str, ...]) -> None:
    learner, data = small.model(), known(answers(8, masked=(3,)), without)
    loss, _, _ = share(learner, Grpo(**keys, max_completion_length=LIMIT), data, [range(8)])
    assert loss == pytest.approx(by_hand(learner, data, keys), abs=1e-5)


@pytest.mark.parametrize("kind", ["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"])
def test_a_factor_made_with_the_loss_is_that_of_the_rollout(kind: Any) -> None:
    """Where an answer is learned from once: the model's log-probabilities of this very pass are the old ones."""
    learner, data = small.model(), known(answers(8, masked=(3,)), ("old", "reference", "correction"))
    told = answers(8, seed=0)  # what the sampler said: the old ones of the same answers, and once nothing
    sampled = [{"sampled": list(one.per_token["old"])} for one in told]
    sampled[0]["sampled"][-1] = math.nan
    made = []
    for one, held in zip(data, sampled, strict=True):
        with torch.no_grad():
            logits = learner(torch.tensor([one.input_ids])).logits[0].log_softmax(-1)
        places = [i for i, label in enumerate(one.labels) if label != -100]
        new = [float(logits[i - 1, one.input_ids[i]]) for i in places]
        ratios = factors(kind, new, [held["sampled"][i] for i in places], 1.3, 0.5)
        placed = [0.0] * len(one.input_ids)
        for i, ratio in zip(places, ratios, strict=True):
            placed[i] = ratio
        made.append(dataclasses.replace(one, per_token={"correction": placed}))
    bounds: dict[str, Any] = {"correction": kind, "correction_max": 1.3, "correction_min": 0.5}
    before = share(learner, Grpo(), made, [range(8)])
    within = [dataclasses.replace(one, per_token=held) for one, held in zip(data, sampled, strict=True)]
    for cut in ([range(8)], [[0, 1], [2], [3, 4, 5, 6, 7]]):
        loss, gradient, figures = share(learner, Grpo(**bounds), within, cut)
        assert loss == pytest.approx(before[0], abs=1e-6)
        assert float((gradient - before[1]).norm() / before[1].norm()) < 1e-5
        assert 0.0 < figures["sampling_mismatch"] < 1.0


@pytest.mark.parametrize(("kind", "share_of"), [("token_mask", "tokens"), ("sequence_mask", "answers")])
@pytest.mark.parametrize("made", ["correction", "sampled"])
def test_what_the_correction_leaves_out_is_told(kind: Any, share_of: str, made: str) -> None:
    """Of what has an advantage: masked answers and those of groups without a spread have nothing to be left out."""
    learner, data, gone = small.model(), answers(8, masked=(3,)), (1, 3, 4, 6)
    far = {"correction": (0.0, 1.0), "sampled": (-60.0, math.nan)}[made]
    data = [
        dataclasses.replace(
            one, per_token={made: [far[number not in gone]] * len(one.input_ids)},
            values={"advantage": 0.0 if number in (5, 6) else 1.0},
        )
        for number, one in enumerate(data)
    ]  # fmt: skip
    counted = [sum(label != -100 for label in one.labels) if share_of == "tokens" else 1 for one in data]
    expected = (counted[1] + counted[4]) / sum(counted[i] for i in (0, 1, 2, 4, 7))
    for cut in ([range(8)], [[0, 1], [2], [3, 4, 5, 6, 7]]):
        _, _, figures = share(learner, Grpo(correction=kind), data, cut)
        assert figures["correction_left_out"] == pytest.approx(expected)


def test_on_policy_the_gradient_is_that_of_the_advantage_times_the_log_probability() -> None:
    """The ratio is 1 and says nothing of itself; its gradient is all there is."""
    learner, data = small.model(), known(answers(6), ("old", "reference", "correction"))
    _, gradient, figures = share(learner, Grpo(loss_type="dapo"), data, [range(6)])
    learner.zero_grad()
    micro = collate(data, range(6))
    new = predict(learner, head_of(learner), micro).logprobs
    (-(new * micro.values["advantage"][micro.owners]).sum() / len(new)).backward()
    plain = torch.cat([p.grad.flatten() for p in learner.parameters() if p.grad is not None])
    assert torch.allclose(gradient, plain, atol=1e-7)
    assert figures == {"clip_low": 0.0, "clip_high": 0.0}


@pytest.mark.filterwarnings("ignore")  # TRL's own
@pytest.mark.parametrize("keys", KINDS.values(), ids=KINDS)
def test_loss_and_gradient_are_those_of_trl(keys: dict[str, Any], tmp_path: Path) -> None:
    """TRL 1.16 on the same batch, in one micro-batch, where its normalisers are those of the whole update."""
    pytest.importorskip("trl")
    data = answers(8, masked=(3,))
    learner = small.model()
    loss, gradient, _ = share(learner, Grpo(**keys, max_completion_length=LIMIT), data, [range(8)])
    theirs, their_gradient = trl_loss(small.model(), data, keys, tmp_path)
    assert loss == pytest.approx(theirs, abs=1e-4)
    assert float((gradient - their_gradient).norm() / their_gradient.norm()) < 1e-4


def trl_loss(learner: Any, data: Sequence[Encoded], keys: dict[str, Any], folder: Path) -> tuple[float, torch.Tensor]:
    """TRL's own loss function on tensors made of the sequences: prompts padded on the left, answers on the right."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    more = {k: v for k, v in keys.items() if k not in ("use_bias_correction_kl", "beta")}
    args = GRPOConfig(
        output_dir=str(folder), use_cpu=True, report_to="none", per_device_train_batch_size=8, num_generations=8,
        max_completion_length=LIMIT, use_bias_correction_kl=keys.get("use_bias_correction_kl", True),
        gradient_checkpointing=False,
        bf16=False, **more,
    )  # fmt: skip
    rows = Dataset.from_list([{"prompt": "3"}])
    trainer = GRPOTrainer(
        model=learner, reward_funcs=lambda completions, **_: [0.0] * len(completions), args=args, train_dataset=rows,
        processing_class=small.tokenizer(),
    )  # fmt: skip
    trainer.use_vllm, trainer.vllm_importance_sampling_correction = True, True
    trainer.beta = keys.get("beta", 0.0)  # after the trainer is made, which would look for a reference model's name
    trainer.current_gradient_accumulation_steps = 1
    split = [len(one.input_ids) - sum(1 for _ in one.per_token["old"] if _ != 0.0) for one in data]
    left, right = max(split), max(len(one.input_ids) - n for one, n in zip(data, split, strict=True))

    def padded(name: str) -> torch.Tensor:
        held = [one.per_token[name][n:] for one, n in zip(data, split, strict=True)]
        return torch.tensor([list(values) + [0.0] * (right - len(values)) for values in held])

    pairs = list(zip(data, split, strict=True))
    ids = [list(one.input_ids[n:]) for one, n in pairs]
    mask = (
        torch.tensor([[1] * (len(o.input_ids) - n) + [0] * (right - len(o.input_ids) + n) for o, n in pairs])
        * torch.tensor([[float(any(label != -100 for label in one.labels))] for one in data]).long()
    )
    inputs = {
        "prompt_ids": torch.tensor([[2] * (left - n) + list(o.input_ids[:n]) for o, n in pairs]),
        "prompt_mask": torch.tensor([[0] * (left - n) + [1] * n for _, n in pairs]),
        "completion_ids": torch.tensor([one + [2] * (right - len(one)) for one in ids]),
        "completion_mask": mask,
        "advantages": torch.tensor([one.values["advantage"] for one in data]),
        "old_per_token_logps": padded("old"), "ref_per_token_logps": padded("reference"),
        "importance_sampling_ratio": padded("correction"), "num_items_in_batch": mask.sum(),
    }  # fmt: skip
    learner.train()
    loss = trainer._compute_loss(learner, inputs)
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in learner.parameters() if p.grad is not None])
