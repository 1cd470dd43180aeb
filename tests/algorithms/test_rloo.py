"""RLOO's loss: as its formula, as TRL's on the same batch, and the same under any cut."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from runner.algorithms.rloo import Rloo
from runner.core.types import Encoded
from runner.data.collate import collate
from runner.training._predictions import head_of, predict
from tests.algorithms.sampled import answers
from tests.training import small


def share(data: Sequence[Encoded], cut: Sequence[Sequence[int]], filler: bool = False, **keys: Any) -> Any:
    """Loss and gradient of an update that is cut like this."""
    learner, algorithm = small.model(), Rloo(**keys)
    totals = {"answers": float(len(data)), "tokens": 1.0}
    loss = 0.0
    for numbers in cut:
        micro = collate([data[i] for i in numbers], numbers, filler=filler)
        part, _ = algorithm.loss(predict(learner, head_of(learner), micro), micro, totals)
        part.backward()
        loss += part.item()
    return loss, torch.cat([p.grad.flatten() for p in learner.parameters() if p.grad is not None])


def near(data: list[Encoded]) -> list[Encoded]:
    """With old log-probabilities so near that some answers are clipped and some are not."""
    learner, made = small.model(), []
    for row, one in enumerate(data):
        micro = collate([one], [0])
        with torch.no_grad():
            new = predict(learner, head_of(learner), micro).logprobs.tolist()
        old = [0.0] * (len(one.input_ids) - len(new)) + [value - (row - 4) * 0.1 / len(new) for value in new]
        made.append(Encoded(one.input_ids, one.labels, None, values=one.values, per_token={"old": old}))
    return made


def test_the_gradient_does_not_depend_on_the_cut_and_fillers_have_none() -> None:
    data = near(answers(8))
    whole = share(data, [range(8)])
    for cut in ([[0, 1], [2], [3, 4, 5, 6, 7]], [[i] for i in range(8)]):
        loss, gradient = share(data, cut)
        assert loss == pytest.approx(whole[0], abs=1e-6)
        assert float((gradient - whole[1]).norm() / whole[1].norm()) < 2e-6
    loss, gradient = share(data, [[0, 1]], filler=True)
    assert loss == 0.0 and not gradient.any()


def test_an_answer_is_one_action() -> None:
    """The ratio of the whole answer, here e to the (row - 4) tenths, clipped at 0.8 and 1.2."""
    data = near(answers(8))
    total = 0.0
    for row, one in enumerate(data):
        ratio, advantage = math.exp((row - 4) * 0.1), one.values["advantage"]
        total -= min(ratio * advantage, min(max(ratio, 0.8), 1.2) * advantage)
    assert share(data, [range(8)])[0] == pytest.approx(total / 8, abs=1e-5)


@pytest.mark.filterwarnings("ignore")  # TRL's own
def test_loss_and_gradient_are_those_of_trl(tmp_path: Path) -> None:
    pytest.importorskip("trl")
    from datasets import Dataset
    from trl import RLOOConfig, RLOOTrainer

    data, learner = near(answers(8)), small.model()
    args = RLOOConfig(
        output_dir=str(tmp_path), use_cpu=True, report_to="none", per_device_train_batch_size=8, num_generations=8,
        beta=0.0, gradient_checkpointing=False, bf16=False, epsilon=0.15, epsilon_high=0.25,
    )  # fmt: skip
    trainer = RLOOTrainer(
        model=learner, reward_funcs=lambda completions, **_: [0.0] * len(completions), args=args,
        train_dataset=Dataset.from_list([{"prompt": "3"}]), processing_class=small.tokenizer(),
    )  # fmt: skip
    split = [next(i for i, label in enumerate(one.labels) if label != -100) for one in data]
    pairs = list(zip(data, split, strict=True))
    left, right = max(split), max(len(one.input_ids) - n for one, n in pairs)
    ids = [list(one.input_ids[n:]) for one, n in pairs]
    inputs = {
        "prompt_ids": torch.tensor([[2] * (left - n) + list(one.input_ids[:n]) for one, n in pairs]),
        "prompt_mask": torch.tensor([[0] * (left - n) + [1] * n for _, n in pairs]),
        "completion_ids": torch.tensor([one + [2] * (right - len(one)) for one in ids]),
        "completion_mask": torch.tensor([[1] * len(one) + [0] * (right - len(one)) for one in ids]),
        "advantages": torch.tensor([one.values["advantage"] for one in data]),
        "old_logps": torch.tensor([sum(one.per_token["old"]) for one in data]),
    }
    learner.train()
    theirs = trainer._compute_loss(learner, inputs)
    theirs.backward()
    loss, gradient = share(data, [range(8)], epsilon=0.15, epsilon_high=0.25)
    other = torch.cat([p.grad.flatten() for p in learner.parameters() if p.grad is not None])
    assert loss == pytest.approx(theirs.item(), abs=1e-4)
    assert float((gradient - other).norm() / other.norm()) < 1e-4
