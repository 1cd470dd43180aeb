"""Which rows are taken: subsets, copies, validation apart; each dataset by its own seed."""

from collections import Counter

from hypothesis import example, given
from hypothesis import strategies as st

from runner.data.draw import by_weight, draw, shares


@given(count=st.integers(2, 60), take=st.integers(1, 200), aside=st.integers(0, 20))
def test_as_many_as_asked_for_and_validation_never_trained_on(count: int, take: int, aside: int) -> None:
    """Copies are whole before a row comes once more."""
    aside = min(aside, count - 1, take - 1)
    made = draw(count, take, aside, "seed")
    assert (len(made.train), len(set(made.validation))) == (take - aside, aside)
    assert not set(made.train) & set(made.validation)
    times = Counter(made.train)
    assert set(times) | set(made.validation) <= set(range(count))
    if times:
        assert max(times.values()) - min([*times.values(), *([0] * (len(times) < count - aside))]) <= 1


def test_the_draw_is_random_and_repeatable() -> None:
    """Another seed takes others."""
    assert draw(100, 10, 0, "a") == draw(100, 10, 0, "a")
    assert draw(100, 10, 0, "a") != draw(100, 10, 0, "b")
    assert draw(100, None, 0, "a").train == list(range(100))
    assert draw(108, 600, 0, "a").train[:540] == list(range(108)) * 5


@example(sizes=[46, 1, 1, 31], total=58)
@given(sizes=st.lists(st.integers(1, 500), min_size=1, max_size=6), total=st.integers(1, 100))
def test_shares_are_in_proportion(sizes: list[int], total: int) -> None:
    """Within one row of the exact share, one row of each dataset left to train on; short only where no more is left."""
    made = shares(sizes, total)
    assert all(0 <= part < size for part, size in zip(made, sizes, strict=True))
    assert sum(made) == min(total, sum(sizes) - len(sizes))
    if all(size > total for size in sizes):
        assert all(abs(part - size * total / sum(sizes)) < 1 for part, size in zip(made, sizes, strict=True))


def test_weights_use_the_scarcest_up() -> None:
    """Three to one."""
    assert by_weight([1000, 100], [3, 1]) == [300, 100]
    assert by_weight([90, 1000], [3, 1]) == [90, 30]
    assert by_weight([10, 20], [10.0, 20.0]) == [10, 20]
