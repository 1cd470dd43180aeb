"""The divergence from a teacher: as TRL's, as its formula, and the same under any cut."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from runner.algorithms import gkd
from runner.algorithms.gkd import Gkd
from runner.core.types import Encoded
from runner.data.collate import collate
from runner.training._predictions import head_of, predict
from tests.algorithms.sampled import answers
from tests.training import small

BETAS = [0.0, 0.3, 0.5, 1.0]


def share(beta: float, data: Sequence[Encoded], cut: Sequence[Sequence[int]], temperature: float = 1.0) -> Any:
    """Loss and gradient of an update that is cut like this."""
    learner, teacher = small.model(), small.model(seed=5).requires_grad_(False)
    algorithm = Gkd(teacher=teacher, beta=beta, temperature=temperature)
    totals = {"tokens": sum(algorithm.measure(one)["tokens"] for one in data)}
    loss = 0.0
    for numbers in cut:
        micro = collate([data[i] for i in numbers], numbers)
        part, _ = algorithm.loss(predict(learner, head_of(learner), micro, temperature), micro, totals)
        part.backward()
        loss += part.item()
    return loss, torch.cat([p.grad.flatten() for p in learner.parameters() if p.grad is not None])


@pytest.mark.parametrize("beta", BETAS)
def test_the_gradient_does_not_depend_on_the_cut(beta: float, monkeypatch: pytest.MonkeyPatch) -> None:
    data = answers(8, masked=(3,))
    whole = share(beta, data, [range(8)])
    monkeypatch.setattr(gkd, "CHUNK", 7)
    for cut in ([[0, 1], [2], [3, 4, 5, 6, 7]], [[i] for i in range(8)]):
        loss, gradient = share(beta, data, cut)
        assert loss == pytest.approx(whole[0], abs=1e-6)
        assert float((gradient - whole[1]).norm() / whole[1].norm()) < 2e-6


@pytest.mark.parametrize("beta", BETAS)
def test_it_is_the_generalized_divergence(beta: float) -> None:
    """Token by token, word by word; forward and reverse at the ends."""
    data = answers(3)
    learner, teacher = small.model(), small.model(seed=5)
    total, count = 0.0, 0
    with torch.no_grad():
        for one in data:
            places = [i - 1 for i, label in enumerate(one.labels) if label != -100]
            ids = torch.tensor([one.input_ids])
            pairs = zip(
                learner(ids).logits[0].softmax(-1)[places], teacher(ids).logits[0].softmax(-1)[places], strict=True
            )
            for ours, theirs in pairs:
                for p, q in zip(ours.tolist(), theirs.tolist(), strict=True):
                    mixed = (1 - beta) * p + beta * q
                    if beta in (0.0, 1.0):
                        total += q * math.log(q / p) if beta == 0.0 else p * math.log(p / q)
                    else:
                        total += beta * q * math.log(q / mixed) + (1 - beta) * p * math.log(p / mixed)
                count += 1
    assert share(beta, data, [range(3)])[0] == pytest.approx(total / count, abs=1e-5)


@pytest.mark.parametrize("beta", BETAS)
def test_loss_and_gradient_are_those_of_trl(beta: float) -> None:
    pytest.importorskip("trl")
    from trl.experimental.gkd import GKDTrainer

    data = answers(8, masked=(3,))
    loss, gradient = share(beta, data, [range(8)], temperature=0.9)
    learner, teacher = small.model(), small.model(seed=5)
    micro = collate(data, range(8))
    ids, mask = micro.inputs["input_ids"], micro.inputs["attention_mask"]
    labels = torch.full(ids.shape, -100)
    labels.flatten()[micro.places + 1] = micro.targets
    with torch.no_grad():
        told = teacher(input_ids=ids, attention_mask=mask).logits
    said = learner(input_ids=ids, attention_mask=mask).logits
    theirs = GKDTrainer.generalized_jsd_loss(said[:, :-1], told[:, :-1], labels[:, 1:], beta=beta, temperature=0.9)
    theirs.backward()
    assert loss == pytest.approx(theirs.item(), abs=1e-4)
    other = torch.cat([p.grad.flatten() for p in learner.parameters() if p.grad is not None])
    assert float((gradient - other).norm() / other.norm()) < 1e-4
