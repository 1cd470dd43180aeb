"""Rewards that mind length and repetition, by values worked out by hand."""

from typing import Any

import pytest

from runner.core import registry
from runner.core.errors import ConfigError


def reward(name: str) -> Any:
    """The function of a shipped reward."""
    return registry.load("rewards", name)


def test_cosine() -> None:
    """Right: 1.0 at no length, 0.75 half way, 0.5 at the end and beyond. Wrong: -0.5 to 0.0."""
    pytest.importorskip("math_verify")
    texts, lengths = ["4"] * 4 + ["5"] * 3, [0, 50, 100, 300, 0, 50, 300]
    ids = [[1] * length for length in lengths]
    made = reward("cosine")(texts, solution=["4"] * 7, max_length=100, completion_ids=ids)
    assert made == pytest.approx([1.0, 0.75, 0.5, 0.5, -0.5, -0.25, 0.0])
    again = reward("cosine")(texts, solution=["4"] * 7, max_length=100, completion_tokens=lengths)
    assert again == made
    assert reward("cosine")(["4"], solution=[""], max_length=100, completion_tokens=[5]) == [None]
    with pytest.raises(ConfigError, match="max_length"):
        reward("cosine")(["4"], solution=["4"], completion_tokens=[5])
    with pytest.raises(ConfigError, match=r"reward.cosine.params.right: \[1.0\] are not two scores"):
        reward("cosine")(["4"], solution=["4"], max_length=9, right=[1.0], completion_tokens=[5])


def test_soft_overlong() -> None:
    """Free up to 80, then down to -1 at 100; no further."""
    lengths = [10, 80, 90, 100, 500]
    made = reward("soft_overlong")(["x"] * 5, max_length=100, cache=20, completion_tokens=lengths)
    assert made == [0.0, 0.0, -0.5, -1.0, -1.0]
    for keys in ({}, {"max_length": 10, "cache": 20}):
        with pytest.raises(ConfigError, match="do not fit"):
            reward("soft_overlong")(["x"], completion_tokens=[1], **keys)


def test_an_answer_of_unknown_length_has_no_score() -> None:
    """Where a row does not tell it; where none does, rewards that need it are refused."""
    made = reward("soft_overlong")(["x"] * 2, max_length=100, cache=20, completion_tokens=[90, None])
    assert made == [-0.5, None]
    pytest.importorskip("math_verify")
    made = reward("cosine")(["4"] * 2, solution=["4"] * 2, max_length=100, completion_tokens=[None, 100])
    assert made == [None, pytest.approx(0.5)]


@pytest.mark.parametrize(
    ("text", "n", "share"),
    [
        ("a b c a b c", 3, 1 / 4),
        ("a b c d", 3, 0.0),
        ("A a a A a", 2, 3 / 4),
        ("我们去学校我们去学校", 3, 3 / 8),
        ("short", 3, 0.0),
        ("", 3, 0.0),
    ],
)
def test_repetition(text: str, n: int, share: float) -> None:
    """Words, and characters of Chinese; case and punctuation left aside."""
    assert reward("repetition")([text], n=n) == [pytest.approx(-share)]
    assert reward("repetition")([text], n=n, max_penalty=-0.5) == [pytest.approx(-share / 2)]
    assert "-0.0" not in map(str, reward("repetition")(["none of it twice"]))  # tables told -0
