"""Advantages against the formulas in numpy, and what has none."""

import numpy
import pytest

from runner.rollouts.advantages import leave_one_out, relative, spread

GROUPS = [[1.0, 0.0, 0.0, 1.0], [0.2, 0.9, 0.4, 0.3], [2.0, 2.0, 2.0, 1.0]]


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_relative_to_the_mean_of_the_group(scale) -> None:
    whole = numpy.std(numpy.array(GROUPS), ddof=1) + 1e-4
    for made, group in zip(relative(GROUPS, scale), GROUPS, strict=True):
        over = {"group": numpy.std(group, ddof=1) + 1e-4, "batch": whole, "none": 1.0}[scale]
        assert made == pytest.approx(list((numpy.array(group) - numpy.mean(group)) / over))


def test_leave_one_out_is_k_over_k_minus_one_of_the_difference() -> None:
    for made, group in zip(leave_one_out(GROUPS), GROUPS, strict=True):
        assert made == pytest.approx(list(4 / 3 * (numpy.array(group) - numpy.mean(group))))


def test_answers_without_a_score_are_left_out_of_the_mean() -> None:
    ((first, none, last),) = relative([[1.0, None, 3.0]], "none")
    assert (first, none, last) == (-1.0, None, 1.0)
    assert leave_one_out([[1.0, None, 3.0]]) == [[-2.0, None, 2.0]]


@pytest.mark.parametrize("group", [[0.5, 0.5, 0.5], [None, 1.0, None], [None, None, None], [0.1 + 0.2, 0.3, 0.3]])
def test_a_group_that_tells_nothing_teaches_nothing(group) -> None:
    assert relative([group]) == [[None] * 3] == leave_one_out([group])


def test_answers_may_be_left_out_of_the_mean_and_yet_have_an_advantage() -> None:
    made = relative([[0.0, 1.0, 5.0]], "none", [[False, False, True]])
    assert made == [[-0.5, 0.5, 4.5]]
    assert relative([[0.0, 1.0, 5.0]], "none", [[False, True, True]]) == [[None] * 3]


def test_the_spread_is_that_of_a_sample() -> None:
    assert spread([1.0, None, 2.0]) == pytest.approx(numpy.std([1, 2], ddof=1))
