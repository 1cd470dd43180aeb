"""Thoughts and answer of a completion."""

import pytest

from runner.core.thoughts import answer, split

CASES = [
    ("plain", None, "plain"),
    ("<think>\nwhy\n</think>\n\nbecause", "why", "because"),
    ("  <think>why</think>because", "why", "because"),
    ("<think>\n\n</think>\n\nbecause", "", "because"),
    ("<think>\nnever closed", "never closed", ""),
    ("so <think>late</think> it is", None, "so <think>late</think> it is"),
    ("<think>a</think>b</think>c", "a", "b</think>c"),
    ("", None, ""),
]


@pytest.mark.parametrize(("text", "thoughts", "said"), CASES)
def test_split(text: str, thoughts: str | None, said: str) -> None:
    assert split(text) == (thoughts, said)
    assert answer(text) == said
