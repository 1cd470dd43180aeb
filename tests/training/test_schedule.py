"""The learning rate of each update."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.core.specs import Optim
from runner.training.schedule import share, warmup_updates

SCHEDULES = ["cosine", "linear", "constant", "wsd"]


def rates(total: int, highest: float = 1.0, **keys: object) -> list[float]:
    optim = Optim(**keys)  # type: ignore[arg-type]
    return [share(optim, highest, update, total) for update in range(total)]


@pytest.mark.parametrize(("warmup", "updates"), [(0.0, 0), (0.05, 5), (0.051, 6), (1.0, 1), (8, 8), (500, 100)])
def test_warmup_is_a_share_below_one_and_a_count_from_one(warmup: float, updates: int):
    assert warmup_updates(Optim(warmup=warmup), 100) == updates


def test_warmup_rises_evenly_and_wastes_no_update():
    assert rates(10, warmup=4)[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_linear():
    assert rates(4, schedule="linear") == [1.0, 0.75, 0.5, 0.25]
    assert rates(4, schedule="linear", min_lr=0.5) == [1.0, 0.875, 0.75, 0.625]


def test_cosine_is_half_way_in_the_middle():
    assert rates(10)[5] == pytest.approx(0.5)
    assert rates(10, highest=1e-4, min_lr=1e-5)[5] == pytest.approx(0.55)


def test_constant_stays_and_wsd_falls_in_its_last_fifth():
    assert set(rates(10, schedule="constant")) == {1.0}
    made = rates(20, schedule="wsd")
    assert made[:17] == [1.0] * 17 and made[17:] == pytest.approx([0.5, 1 - 0.5**0.5, 1 - 0.75**0.5])


@given(
    st.sampled_from(SCHEDULES), st.integers(1, 300), st.one_of(st.floats(0, 0.99), st.integers(1, 400)),
    st.floats(0, 2e-4),
)  # fmt: skip
def test_a_rate_lies_between_the_lowest_and_the_highest_and_falls_after_warm_up(schedule, total, warmup, min_lr):
    made = rates(total, highest=1e-4, schedule=schedule, warmup=float(warmup), min_lr=min_lr)
    begin = warmup_updates(Optim(warmup=float(warmup)), total)
    assert all(0 < rate <= 1 + 1e-12 for rate in made)
    assert all(rate >= min(1.0, min_lr / 1e-4) - 1e-12 for rate in made[begin:])
    assert made[begin:] == sorted(made[begin:], reverse=True)
