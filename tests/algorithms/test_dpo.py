"""DPO and its kin: the formulas, written out once more, and the same gradient however an update is cut."""

import math
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch

from runner.algorithms._dpo_losses import LOSSES
from runner.algorithms.dpo import Dpo, Loss
from runner.core.types import Encoded
from runner.data.collate import collate
from runner.training._predictions import head_of, predict
from runner.training.planned import Cutting, batch
from tests.algorithms import judged
from tests.training import small

BETA, EPS = 0.3, 0.1


def sig(x: float) -> float:
    """The logistic function."""
    return 1 / (1 + math.exp(-x))


def nls(x: float) -> float:
    """Minus the logarithm of it."""
    return -math.log(sig(x))


# c, r: gains of the chosen and rejected answer; m, n: their tokens
FORMULAS: dict[str, Callable[[float, float, int, int], float]] = {
    "sigmoid": lambda c, r, m, n: nls(BETA * (c - r)),
    "hinge": lambda c, r, m, n: max(0.0, 1 - BETA * (c - r)),
    "ipo": lambda c, r, m, n: (c / m - r / n - 1 / (2 * BETA)) ** 2,
    "robust": lambda c, r, m, n: ((1 - EPS) * nls(BETA * (c - r)) - EPS * nls(BETA * (r - c))) / (1 - 2 * EPS),
    "sigmoid_norm": lambda c, r, m, n: nls(BETA * (c / m - r / n)),
    "exo_pair": lambda c, r, m, n: (
        sig(BETA * (c - r)) * math.log(sig(BETA * (c - r)) / (1 - EPS))
        + sig(BETA * (r - c)) * math.log(sig(BETA * (r - c)) / EPS)
    ),
    "nca_pair": lambda c, r, m, n: nls(BETA * c) + nls(-BETA * c) / 2 + nls(-BETA * r) / 2,
    "bco_pair": lambda c, r, m, n: nls(BETA * c) + nls(-BETA * r),
    "sppo_hard": lambda c, r, m, n: (c - 0.5 / BETA) ** 2 + (r + 0.5 / BETA) ** 2,
    "apo_zero": lambda c, r, m, n: 1 - sig(BETA * c) + sig(BETA * r),
    "apo_down": lambda c, r, m, n: sig(BETA * c) + 1 - sig(BETA * (c - r)),
}


@pytest.fixture(scope="module")
def data() -> list[Encoded]:
    """Eight pairs with the log-probabilities of another small model."""
    return judged.pairs(8, before=small.model(seed=1))


def algorithm(name: Any, **keys: Any) -> Dpo:
    return Dpo(beta=BETA, loss_type=name, label_smoothing=EPS, **keys)


def test_every_loss_has_a_formula_here():
    assert set(get_args(Loss)) == {*LOSSES, "sft"} and set(LOSSES) == set(FORMULAS)


@pytest.mark.parametrize("name", FORMULAS)
def test_the_loss_is_its_formula_pair_by_pair(data: list[Encoded], name: str):
    learner = small.model()
    wanted = 0.0
    for chosen, rejected in zip(data[::2], data[1::2], strict=True):
        gains = [judged.logprob(learner, one) - one.values["reference"] for one in (chosen, rejected)]
        sizes = [sum(label != -100 for label in one.labels) for one in (chosen, rejected)]
        wanted += FORMULAS[name](*gains, *sizes) / 8
    _, loss = judged.gradient(learner, algorithm(name), data, [range(16)])
    assert loss == pytest.approx(wanted, rel=1e-5)


def test_losses_are_added_by_weight_and_sft_is_the_mean_over_chosen_tokens(data: list[Encoded]):
    learner = small.model()
    chosen = data[::2]
    tokens = sum(label != -100 for one in chosen for label in one.labels)
    sft = -sum(judged.logprob(learner, one) for one in chosen) / tokens
    _, plain = judged.gradient(learner, algorithm("sigmoid"), data, [range(16)])
    _, both = judged.gradient(learner, algorithm(["sigmoid", "sft"], loss_weights=[0.8, 0.5]), data, [range(16)])
    assert both == pytest.approx(0.8 * plain + 0.5 * sft, rel=1e-5)


def test_without_a_reference_it_is_as_if_that_gave_nothing(data: list[Encoded]):
    learner = small.model()
    nothing = [Encoded(**{**vars(one), "values": {**one.values, "reference": 0.0}}) for one in data]
    free = judged.gradient(learner, algorithm("sigmoid", reference="free"), judged.pairs(8), [range(16)])
    assert free[1] == judged.gradient(learner, algorithm("sigmoid"), nothing, [range(16)])[1]


CUTS: dict[str, list[list[int]]] = {
    "a pair each": [[i, i + 1] for i in range(0, 16, 2)],
    "uneven": [[0, 1], [2, 3, 4, 5, 6, 7, 8, 9], [14, 15, 10, 11], [12, 13]],
}


@pytest.mark.parametrize("name", [*LOSSES, ["sigmoid", "sft"]], ids=str)
@pytest.mark.parametrize("cuts", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
def test_the_gradient_is_the_same_however_pairs_are_cut(data: list[Encoded], name: Any, cuts: Any, packed: bool):
    learner = small.model()
    whole, loss = judged.gradient(learner, algorithm(name), data, [range(16)])
    other, again = judged.gradient(learner, algorithm(name), data, cuts, packed)
    assert judged.apart(whole, other) < 1e-5 and again == pytest.approx(loss, rel=1e-5)


def test_shares_of_devices_add_up_to_one_device_and_pairs_stay_whole(data: list[Encoded]):
    learner, loss = small.model(), algorithm(["sigmoid", "sft"])
    numbers, rows = range(16), [i // 2 for i in range(16)]

    def parts(world: int) -> list[torch.Tensor]:
        made = []
        for rank in range(world):
            learner.zero_grad()
            work = batch(0, numbers, data, rows, loss, Cutting(50, False, world, rank))
            assert work.size.rows == 8 and work.totals["pairs"] == 8
            for micro in work.micros:
                assert [data[i].values["chosen"] for i in micro.sequences] == [1, 0] * (len(micro.sequences) // 2)
                assert all(rows[a] == rows[b] for a, b in zip(micro.sequences[::2], micro.sequences[1::2], strict=True))
                loss.loss(predict(learner, head_of(learner), micro), micro, work.totals)[0].backward()
            made.append(torch.cat([p.grad.flatten() for p in learner.parameters()]))
        return made

    (single,) = parts(1)
    for world in (2, 3):
        assert judged.apart(single, torch.stack(parts(world)).sum(0)) < 1e-5


@pytest.mark.parametrize("name", [*LOSSES, "sft"])
def test_a_filler_keeps_the_graph_and_adds_nothing(data: list[Encoded], name: Any):
    learner = small.model()
    micro = collate(data[:2], [0, 1], filler=True)
    share, figures = algorithm(name).loss(
        predict(learner, head_of(learner), micro), micro, {"pairs": 8.0, "chosen": 9.0}
    )
    share.backward()
    assert share.item() == 0.0 and all(value.item() == 0.0 for value in figures.values())
    assert all(p.grad is not None and p.grad.abs().max() == 0 for p in learner.parameters())


def test_figures_are_means_over_the_pairs_of_the_update(data: list[Encoded]):
    learner = small.model()
    totals = {"pairs": 8.0, "chosen": 1.0}
    sums: dict[str, float] = {}
    for numbers in CUTS["uneven"]:
        micro = collate([data[i] for i in numbers], numbers)
        for key, value in (
            algorithm("sigmoid").loss(predict(learner, head_of(learner), micro), micro, totals)[1].items()
        ):
            sums[key] = sums.get(key, 0.0) + value.item()
    gains = [BETA * (judged.logprob(learner, one) - one.values["reference"]) for one in data]
    chosen, rejected = gains[::2], gains[1::2]
    assert sums["rewards_chosen"] == pytest.approx(sum(chosen) / 8, rel=1e-4)
    assert sums["rewards_rejected"] == pytest.approx(sum(rejected) / 8, rel=1e-4)
    assert sums["margin"] == pytest.approx(sums["rewards_chosen"] - sums["rewards_rejected"], rel=1e-4)
    assert sums["accuracy"] == sum(a > b for a, b in zip(chosen, rejected, strict=True)) / 8


def test_weights_of_tokens_count():
    """A token that weighs nothing is as if it were no part of the answer."""
    learner, one = small.model(), judged.pairs(1)
    cut = [Encoded(**{**vars(each), "labels": [*each.labels[:-1], -100]}) for each in one]
    light = [Encoded(**{**vars(each), "weights": [1.0] * (len(each.labels) - 1) + [0.0]}) for each in one]
    free = algorithm("sigmoid", reference="free")
    assert judged.gradient(learner, free, cut, [[0, 1]])[1] == judged.gradient(learner, free, light, [[0, 1]])[1]
