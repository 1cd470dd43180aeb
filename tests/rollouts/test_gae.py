"""Advantages of single tokens: by their definition as a sum, and what rewards they are made of."""

import numpy
import pytest

from runner.core.types import Completion
from runner.rollouts.answers import Answer
from runner.rollouts.gae import Gae, advantages

VALUES, REWARDS = [0.5, -0.2, 0.3, 0.1], [0.0, -0.1, 0.2, 1.0]


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.5), (1.0, 0.0), (1.0, 1.0)])
def test_an_advantage_is_the_sum_of_later_surprises(gamma: float, lam: float) -> None:
    gains, returns = advantages(REWARDS, VALUES, gamma, lam)
    following = [*VALUES[1:], 0.0]
    surprises = [r + gamma * f - v for r, f, v in zip(REWARDS, following, VALUES, strict=True)]
    for place in range(4):
        expected = sum((gamma * lam) ** (later - place) * surprises[later] for later in range(place, 4))
        assert gains[place] == pytest.approx(expected)
        assert returns[place] == pytest.approx(expected + VALUES[place])


def test_with_lambda_one_the_return_is_what_came_of_it() -> None:
    assert advantages(REWARDS, VALUES, 1.0, 1.0)[1] == pytest.approx([1.1, 1.1, 1.2, 1.0])


def answer(prompt: int, total: float | None, old: tuple[float, ...], reference: tuple[float, ...]) -> Answer:
    made = Completion("", None, "stop", 1, len(old), token_ids=(3,) * len(old), mask=(1,) * len(old))
    return Answer(prompt, 0, made, total=total, old=old, reference=reference, values=(0.0,) * len(old))


def test_the_reward_comes_at_the_end_and_divergence_costs_on_the_way() -> None:
    one = answer(0, 2.0, (-1.0, -1.0), (-1.5, -0.5))
    other = answer(1, 0.0, (-1.0,), (-1.0,))
    none = answer(2, None, (-1.0,), (-1.0,))
    made = [group[0] for group in Gae(lam=1.0, kl_coef=0.1).weigh([(one,), (other,), (none,)])]
    assert made[0].returns == pytest.approx((2.0, 2.05)) and made[1].returns == (0.0,)
    assert made[2].gains == () and made[2].advantage is None
    gains = numpy.array([*made[0].gains, *made[1].gains])
    assert gains.mean() == pytest.approx(0.0, abs=1e-9) and gains.std(ddof=1) == pytest.approx(1.0, abs=1e-6)
