"""Factors for a sampler that is not quite the model."""

import math

import pytest

from runner.rollouts.correction import factors, mismatch

OLD, SAMPLED = [-1.0, -2.0, -0.5], [-1.2, -1.0, math.nan]  # ratios e^0.2, e^-1, 1 where it is not known


@pytest.mark.parametrize(
    ("kind", "highest", "lowest", "expected"),
    [
        ("token_truncate", 1.1, 0.5, [1.1, 0.5, 1.0]),
        ("token_mask", 1.1, None, [0.0, math.exp(-1.0), 1.0]),
        ("sequence_truncate", 3.0, None, [math.exp(-0.8)] * 3),
        ("sequence_truncate", 3.0, 0.9, [0.9] * 3),
        ("sequence_mask", 3.0, 0.9, [0.0] * 3),
        ("sequence_mask", None, None, [math.exp(-0.8)] * 3),
    ],
)
def test_ratios_are_bounded_or_dropped(kind, highest, lowest, expected) -> None:
    assert factors(kind, OLD, SAMPLED, highest, lowest) == pytest.approx(expected)


def test_far_apart_stays_a_number() -> None:
    assert factors("sequence_truncate", [0.0] * 9, [-1000.0] * 9, 3.0, None) == [3.0] * 9
    assert mismatch(OLD, SAMPLED) == pytest.approx([0.2, 1.0])
