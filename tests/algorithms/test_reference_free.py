"""SimPO and ORPO: their formulas written out once more, and the same gradient however an update is cut."""

import math
from typing import Any

import pytest
import torch

from runner.algorithms.orpo import Orpo
from runner.algorithms.simpo import Simpo
from runner.core.types import Encoded
from runner.data.collate import collate
from runner.training._predictions import head_of, predict
from runner.training.planned import Cutting, batch
from tests.algorithms import judged
from tests.training import small

ALGORITHMS: dict[str, Any] = {
    "simpo": Simpo(beta=2.0, simpo_gamma=0.8, label_smoothing=0.1, cpo_alpha=0.5),
    "orpo": Orpo(beta=0.3),
}


def nls(x: float) -> float:
    """Minus the logarithm of the logistic function."""
    return math.log1p(math.exp(-x))


def odds(logprob: float) -> float:
    """The logarithm of p / (1 - p)."""
    return logprob - math.log(1 - math.exp(logprob))


@pytest.fixture(scope="module")
def data() -> list[Encoded]:
    """Eight pairs."""
    return judged.pairs(8)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_loss_is_its_formula(data: list[Encoded], name: str):
    learner = small.model()
    sizes = [sum(label != -100 for label in one.labels) for one in data]
    means = [judged.logprob(learner, one) / size for one, size in zip(data, sizes, strict=True)]
    copied = -sum(mean * size for mean, size in zip(means[::2], sizes[::2], strict=True)) / sum(sizes[::2])
    each = list(zip(means[::2], means[1::2], strict=True))
    if name == "simpo":
        ahead = [2.0 * (chosen - rejected) - 0.8 for chosen, rejected in each]
        wanted = sum(0.9 * nls(x) + 0.1 * nls(-x) for x in ahead) / 8 + 0.5 * copied
    else:
        wanted = copied + 0.3 * sum(nls(odds(chosen) - odds(rejected)) for chosen, rejected in each) / 8
    assert judged.gradient(learner, ALGORITHMS[name], data, [range(16)])[1] == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
def test_the_gradient_is_the_same_however_pairs_are_cut(data: list[Encoded], name: str, packed: bool):
    learner, cuts = small.model(), [[0, 1], [2, 3, 4, 5, 6, 7, 8, 9], [14, 15, 10, 11], [12, 13]]
    whole, loss = judged.gradient(learner, ALGORITHMS[name], data, [range(16)])
    other, again = judged.gradient(learner, ALGORITHMS[name], data, cuts, packed)
    assert judged.apart(whole, other) < 1e-5 and again == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_shares_of_devices_add_up_to_one_device(data: list[Encoded], name: str):
    learner, rows = small.model(), [i // 2 for i in range(16)]

    def parts(world: int) -> list[torch.Tensor]:
        made = []
        for rank in range(world):
            learner.zero_grad()
            work = batch(0, range(16), data, rows, ALGORITHMS[name], Cutting(50, False, world, rank))
            for micro in work.micros:
                ALGORITHMS[name].loss(predict(learner, head_of(learner), micro), micro, work.totals)[0].backward()
            made.append(torch.cat([p.grad.flatten() for p in learner.parameters()]))
        return made

    (single,) = parts(1)
    for world in (2, 3):
        assert judged.apart(single, torch.stack(parts(world)).sum(0)) < 1e-5


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_filler_keeps_the_graph_and_adds_nothing(data: list[Encoded], name: str):
    learner = small.model()
    micro = collate(data[:2], [0, 1], filler=True)
    told = predict(learner, head_of(learner), micro)
    share, figures = ALGORITHMS[name].loss(told, micro, {"pairs": 8.0, "chosen": 9.0})
    share.backward()
    assert share.item() == 0.0 and all(value.item() == 0.0 for value in figures.values())
    assert all(p.grad is not None and p.grad.abs().max() == 0 for p in learner.parameters())


def test_answers_that_are_certain_do_not_break_the_odds(data: list[Encoded]):
    """A log-probability of 0 has infinite odds."""
    from dataclasses import dataclass

    @dataclass
    class Certain:
        logprobs: torch.Tensor

    micro = collate(data[:2], [0, 1])
    logprobs = torch.zeros(len(micro.weights), requires_grad=True)
    share, _ = Orpo().loss(Certain(logprobs), micro, {"pairs": 1.0, "chosen": 1.0})  # type: ignore[arg-type]
    share.backward()
    assert torch.isfinite(share) and torch.isfinite(logprobs.grad).all()  # type: ignore[arg-type]
