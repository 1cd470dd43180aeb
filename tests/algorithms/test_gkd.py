"""The divergence from a teacher: as TRL's, as its formula, and the same under any cut."""

import math
from collections.abc import Sequence
from dataclasses import replace
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


@pytest.mark.filterwarnings("ignore")  # TRL's own
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


def told(student: torch.Tensor, teacher: torch.Tensor, k: int, beta: float) -> list[torch.Tensor]:
    """Divergence and rests where the teacher's k likeliest words and one more are known, and nothing besides."""
    logprobs = teacher.log_softmax(-1)
    ids = logprobs.topk(k).indices
    own = torch.full((len(ids), 1), 3)
    known = (ids == own).any(-1, keepdim=True)
    ids = torch.cat([ids, torch.where(known, -1, own)], -1)
    return list(gkd._over_told(student, ids, logprobs.gather(-1, ids.clamp(min=0)), beta))


@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 0.9])
def test_what_a_server_tells_converges_to_the_whole_divergence(beta: float) -> None:
    """Never more than it, more with each word, within what the rests allow, and equal at the whole vocabulary."""
    torch.manual_seed(0)
    student, teacher = 3 * torch.randn(50, 40), 3 * torch.randn(50, 40)
    whole, before = gkd._divergence(student, teacher, beta), torch.full((50,), -1e-6)
    for k in (1, 2, 5, 10, 20, 39, 40):
        found, ours, theirs = told(student, teacher, k, beta)
        assert (found >= before - 5e-5).all() and (found <= whole + 5e-5).all()
        if 0 < beta < 1:
            lost = beta * theirs * math.log(1 / beta) + (1 - beta) * ours * math.log(1 / (1 - beta))
            assert (whole - found <= lost + 5e-5).all()
        before = found
    assert torch.allclose(found, whole, atol=5e-5) and float(ours.max()) < 1e-6 and float(theirs.max()) < 1e-6
    assert float(told(student, teacher, 1, beta)[0].mean()) < 0.97 * float(whole.mean())  # there was something to gain


@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_the_gradient_of_what_is_told_converges_too_and_is_finite(beta: float) -> None:
    torch.manual_seed(1)
    teacher, found = 3 * torch.randn(20, 40), {}
    for k in (1, 20, 40, None):
        student = torch.linspace(-3, 3, 800).reshape(20, 40).requires_grad_()
        apart = gkd._divergence(student, teacher, beta) if k is None else told(student, teacher, k, beta)[0]
        apart.sum().backward()
        assert student.grad is not None and student.grad.isfinite().all() and float(student.grad.norm()) > 0.1
        found[k] = student.grad
    far = [float((found[k] - found[None]).norm() / found[None].norm()) for k in (1, 20, 40)]
    assert far[0] > far[1] > far[2] and far[2] < 1e-5


@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_a_teacher_that_tells_all_words_is_as_one_that_is_here(beta: float) -> None:
    """Loss and gradient of updates, under any cut; words that the student has not are no words."""
    data, teacher = answers(6, masked=(2,)), small.model(seed=5)
    whole = share(beta, data, [range(6)])
    known = []
    for one in data:
        with torch.no_grad():
            chances = teacher(torch.tensor([one.input_ids])).logits[0].log_softmax(-1)
        ids = [[*range(chances.shape[-1]), 10**6]] * len(one.input_ids)
        logprobs = [[0.0] * (chances.shape[-1] + 1), *([*row, -1e4] for row in chances[:-1].tolist())]
        known.append(replace(one, per_token={"teacher_ids": ids, "teacher_logprobs": logprobs}))
    for cut in ([range(6)], [[0, 1], [2], [3, 4, 5]]):
        algorithm, learner, loss = Gkd(beta=beta), small.model(), 0.0
        totals = {"tokens": sum(algorithm.measure(one)["tokens"] for one in known)}
        for numbers in cut:
            micro = collate([known[i] for i in numbers], numbers)
            if not len(micro.targets):  # masked: no device is given it
                continue
            part, figures = algorithm.loss(predict(learner, head_of(learner), micro), micro, totals)
            part.backward()
            loss += part.item()
            assert float(figures["teacher_tail"]) < 1e-5
        gradient = torch.cat([p.grad.flatten() for p in learner.parameters() if p.grad is not None])
        assert loss == pytest.approx(whole[0], abs=1e-5)
        assert float((gradient - whole[1]).norm() / whole[1].norm()) < 1e-4
