"""The reward model's loss: Bradley and Terry's, at one place a sequence, the same however an update is cut."""

import math

import pytest
import torch

from runner.algorithms.reward_model import RewardModel
from runner.core.types import Encoded
from runner.data.collate import collate
from runner.data.scored import Scored
from runner.models._value_head import with_value_head
from runner.training._predictions import head_of, predict
from tests.algorithms import judged
from tests.training import small


def learner() -> object:
    model = small.model()
    torch.manual_seed(5)
    return with_value_head(model)[0]


def test_a_sequence_ends_with_its_answer_and_one_place_is_wanted():
    one = Encoded([5, 6, 7, 8, 9], [-100, -100, 7, 8, -100], [0, 0, 0.5, 0.5, 0], values={"chosen": 1.0})
    (made,) = Scored([one])
    assert made.input_ids == [5, 6, 7, 8, 8] and made.labels == [-100] * 4 + [8]
    assert made.weights is None and made.values == {"chosen": 1.0}
    assert collate([made], [0]).places.tolist() == [3]


@pytest.mark.parametrize("coefficient", [None, 0.3])
def test_the_loss_is_its_formula(coefficient: float | None):
    model, data = learner(), list(Scored(judged.pairs(8)))
    with torch.no_grad():
        told = [model(torch.tensor([one.input_ids[:-1]])).logits[0, -1, 0].item() for one in data]  # type: ignore[operator]
    wanted = 0.0
    for chosen, rejected in zip(told[::2], told[1::2], strict=True):
        wanted += math.log1p(math.exp(rejected - chosen)) + (coefficient or 0.0) * (chosen + rejected) ** 2
    loss = RewardModel(center_rewards_coefficient=coefficient)
    assert judged.gradient(model, loss, data, [range(16)])[1] == pytest.approx(wanted / 8, rel=1e-5)


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
def test_the_gradient_is_the_same_however_pairs_are_cut(packed: bool):
    model, data, loss = learner(), list(Scored(judged.pairs(8))), RewardModel(center_rewards_coefficient=0.1)
    whole, value = judged.gradient(model, loss, data, [range(16)])
    cuts = [[0, 1], [2, 3, 4, 5, 6, 7, 8, 9], [14, 15, 10, 11], [12, 13]]
    other, again = judged.gradient(model, loss, data, cuts, packed)
    assert judged.apart(whole, other) < 1e-5 and again == pytest.approx(value, rel=1e-5)


def test_a_filler_keeps_the_graph_and_adds_nothing():
    model, data = learner(), list(Scored(judged.pairs(1)))
    micro = collate(data, [0, 1], filler=True)
    share, figures = RewardModel().loss(predict(model, head_of(model), micro), micro, {"pairs": 8.0})
    share.backward()
    assert share.item() == 0.0 and all(value.item() == 0.0 for value in figures.values())
    assert all(p.grad is not None and p.grad.abs().max() == 0 for p in model.parameters())  # type: ignore[attr-defined]
