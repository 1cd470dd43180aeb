"""Pairs and labelled answers of a small model, by hand; their log-probabilities one sequence at a time."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from runner.core.types import Encoded
from runner.data.collate import collate, trained
from runner.training._predictions import head_of, predict
from tests.training import small


def questions(count: int, seed: int = 0) -> list[list[int]]:
    """Of 3 to 9 tokens."""
    rng = random.Random(seed)
    return [[rng.randint(3, small.VOCABULARY - 1) for _ in range(rng.randint(3, 9))] for _ in range(count)]


def sequence(question: Sequence[int], answer: Sequence[int], row: int, **values: float) -> Encoded:
    """A question and the answer that is trained."""
    return Encoded([*question, *answer], [-100] * len(question) + list(answer), None, "rows", row, values=values)


def pairs(count: int, seed: int = 0, before: Any = None) -> list[Encoded]:
    """Chosen answers count upwards, rejected ones do not; of 2 to 12 tokens. before: the reference, if there is one."""
    rng = random.Random(seed)
    made = []
    for row, question in enumerate(questions(count, seed)):
        start, wrong = rng.randint(3, 50), [rng.randint(3, small.VOCABULARY - 1) for _ in range(rng.randint(2, 12))]
        chosen = [3 + (start + i) % (small.VOCABULARY - 3) for i in range(rng.randint(2, 12))]
        made += [sequence(question, chosen, row, chosen=1.0), sequence(question, wrong, row, chosen=0.0)]
    return made if before is None else referred(made, before)


def referred(sequences: Sequence[Encoded], before: Any) -> list[Encoded]:
    """With what a reference model gives each."""
    return [replace(one, values={**one.values, "reference": logprob(before, one)}) for one in sequences]


@torch.no_grad()
def logprob(model: Any, one: Encoded) -> float:
    """Of the trained tokens of a sequence, from the model's plain logits."""
    logits = model(torch.tensor([one.input_ids])).logits[0].float().log_softmax(-1)
    return float(torch.stack([weight * logits[i - 1, one.input_ids[i]] for i, weight in trained(one)]).sum())


def gradient(
    model: Any, algorithm: Any, data: Sequence[Encoded], cuts: Sequence[Sequence[int]], packed: bool = False,
    more: dict[str, float] | None = None,
) -> tuple[torch.Tensor, float]:  # fmt: skip
    """Gradient and loss of an update whose micro-batches hold the sequences of `cuts`. more: totals besides."""
    model.zero_grad()
    totals: dict[str, float] = dict(more or {})
    for one in data:
        for name, amount in algorithm.measure(one).items():
            totals[name] = totals.get(name, 0.0) + amount
    loss = 0.0
    for numbers in cuts:
        micro = collate([data[i] for i in numbers], numbers, packed)
        share, _ = algorithm.loss(predict(model, head_of(model), micro), micro, totals)
        share.backward()
        loss += share.item()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]), loss


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """Relative distance over all weights."""
    return float((one - other).norm() / one.norm())


def labelled(count: int, seed: int = 0, before: Any = None) -> list[Encoded]:
    """Answers one by one; five of eight are good ones."""
    kept = [one for place, one in enumerate(pairs(count, seed)) if place % 4 != 3][:count]
    kept = [replace(one, values={"desirable": one.values["chosen"]}, row=row) for row, one in enumerate(kept)]
    return kept if before is None else referred(kept, before)
