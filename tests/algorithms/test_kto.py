"""KTO: its formula written out once more, its baseline over the whole update, the same gradient under any cut."""

import math
from typing import Any

import pytest
import torch

from runner.algorithms.kto import Kto
from runner.core.types import Encoded
from runner.data.collate import collate, trained
from runner.data.mismatch import Mismatched
from runner.training._predictions import head_of, predict
from runner.training.baseline import baseline
from runner.training.planned import Cutting, batch
from tests.algorithms import judged
from tests.training import small

BETA = 0.3


def sig(x: float) -> float:
    """The logistic function."""
    return 1 / (1 + math.exp(-x))


@pytest.fixture(scope="module")
def data() -> list[Encoded]:
    """Twelve labelled answers with the log-probabilities of another small model."""
    return judged.labelled(12, before=small.model(seed=1))


class Learner:
    """A model that tells log-probabilities, one sequence at a time."""

    def __init__(self, model: Any) -> None:
        self.model = model

    @torch.no_grad()
    def logprobs(self, sequences: Any) -> list[list[float]]:
        made = []
        for one in sequences:
            logits = self.model(torch.tensor([one.input_ids])).logits[0].log_softmax(-1)
            made.append([float(logits[i - 1, one.input_ids[i]]) for i, _ in trained(one)])
        return made


@pytest.mark.parametrize("kind", ["kto", "apo_zero_unpaired"])
def test_the_loss_is_its_formula_answer_by_answer(data: list[Encoded], kind: Any):
    learner, kl = small.model(), 0.7
    wanted = 0.0
    for one in data:
        gain = judged.logprob(learner, one) - one.values["reference"]
        base = kl if kind == "kto" else 0.0
        good = one.values["desirable"] == 1.0
        wanted += 1.5 * (1 - sig(BETA * (gain - base))) if good else 0.5 * (1 - sig(BETA * (base - gain)))
    loss = Kto(beta=BETA, loss_type=kind, desirable_weight=1.5, undesirable_weight=0.5)
    _, found = judged.gradient(learner, loss, data, [range(12)], more={"kl": kl})
    assert found == pytest.approx(wanted / 12, rel=1e-5)


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize(
    "cuts", [[[i] for i in range(12)], [[0, 1, 2, 3, 4, 5, 6], [11, 10], [9, 8, 7]]], ids=["one each", "uneven"]
)
def test_the_gradient_is_the_same_however_answers_are_cut(data: list[Encoded], cuts: list[list[int]], packed: bool):
    learner, loss = small.model(), Kto(beta=BETA, undesirable_weight=0.7)
    whole, value = judged.gradient(learner, loss, data, [range(12)], more={"kl": 0.4})
    other, again = judged.gradient(learner, loss, data, cuts, packed, more={"kl": 0.4})
    assert judged.apart(whole, other) < 1e-5 and again == pytest.approx(value, rel=1e-5)


def test_shares_of_devices_add_up_to_one_device(data: list[Encoded]):
    learner, loss = small.model(), Kto(beta=BETA)

    def parts(world: int) -> list[torch.Tensor]:
        made = []
        for rank in range(world):
            learner.zero_grad()
            work = batch(0, range(12), data, range(12), loss, Cutting(50, False, world, rank))
            for micro in work.micros:
                told = predict(learner, head_of(learner), micro)
                loss.loss(told, micro, {**work.totals, "kl": 0.4})[0].backward()
            made.append(torch.cat([p.grad.flatten() for p in learner.parameters()]))
        return made

    (single,) = parts(1)
    for world in (2, 5):
        assert judged.apart(single, torch.stack(parts(world)).sum(0)) < 1e-5


def test_a_filler_keeps_the_graph_and_adds_nothing(data: list[Encoded]):
    learner = small.model()
    micro = collate(data[:2], [0, 1], filler=True)
    totals = {"answers": 12.0, "desirable": 8.0, "undesirable": 4.0, "kl": 0.4}
    share, figures = Kto().loss(predict(learner, head_of(learner), micro), micro, totals)
    share.backward()
    assert share.item() == 0.0 and all(value.item() == 0.0 for value in figures.values())
    assert all(p.grad is not None and p.grad.abs().max() == 0 for p in learner.parameters())


def test_the_baseline_is_the_mean_gain_on_answers_to_other_questions(data: list[Encoded]):
    learner, before = small.model(), small.model(seed=1)
    others = judged.referred(list(Mismatched(data, 0, None, "mix")), before)
    gains = [judged.logprob(learner, one) - judged.logprob(before, one) for one in others]
    mean = sum(gains) / len(gains)
    forth, back = baseline(Learner(learner), others), baseline(Learner(before), judged.referred(others, learner))
    assert mean > 0.05 and forth == pytest.approx(mean, rel=1e-3)
    assert back == 0.0


def test_figures(data: list[Encoded]):
    learner = small.model()
    gains = [judged.logprob(learner, one) - one.values["reference"] for one in data]
    good = [one.values["desirable"] == 1.0 for one in data]
    micro = collate(data, range(12))
    totals = {"answers": 12.0, "desirable": float(sum(good)), "undesirable": 12.0 - sum(good), "kl": 0.4}
    _, figures = Kto(beta=BETA).loss(predict(learner, head_of(learner), micro), micro, totals)
    chosen = [BETA * gain for gain, is_good in zip(gains, good, strict=True) if is_good]
    rejected = [BETA * gain for gain, is_good in zip(gains, good, strict=True) if not is_good]
    assert figures["rewards_chosen"].item() == pytest.approx(sum(chosen) / len(chosen), rel=1e-4)
    assert figures["rewards_rejected"].item() == pytest.approx(sum(rejected) / len(rejected), rel=1e-4)
    right = [(gain > 0.4) == is_good for gain, is_good in zip(gains, good, strict=True)]
    assert figures["accuracy"].item() == pytest.approx(sum(right) / 12)
