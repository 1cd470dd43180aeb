"""The shipped rules, each on what it is for."""

from typing import Any

import pytest

from runner.core.places import package_root
from runner.core.types import Span
from runner.data import rules

THOUGHT, EMPTY = "<think>\nx\n</think>\n\n", "<think>\n\n</think>\n\n"


def pieces(name: Any, text: str, role: str = "assistant", last: bool = True, turn: int = 1) -> list[tuple[str, float]]:
    """Text and weight, neighbours of one weight joined; without the rule that stands in front."""
    made = rules.load([name], [package_root()])
    (rule,) = made.scaling or made.base
    found: list[tuple[str, float]] = []
    at = 0
    for count, weight in rule.factors(Span(text, role, turn, last)):
        piece = text[at : at + count]
        at += count
        if found and found[-1][1] == weight:
            found[-1] = (found[-1][0] + piece, weight)
        elif piece:
            found.append((piece, weight))
    return found


@pytest.mark.parametrize(
    ("name", "role", "last", "weight"),
    [
        ("default", "assistant", False, 1), ("default", "user", True, 0), ("default", "system", True, 0),
        ("default", "tool", True, 0), ("default", "template", True, 0),
        ("last_round", "assistant", True, 1), ("last_round", "assistant", False, 0), ("last_round", "user", True, 0),
        ("all", "user", False, 1), ("all", "template", False, 1), ("all", "assistant", True, 1),
    ],
)  # fmt: skip
def test_what_is_trained_at_all(name: str, role: str, last: bool, weight: float) -> None:
    """By role and round."""
    assert pieces(name, "words", role, last) == [("words", weight)]


def test_parity_trains_the_newline_after_a_turn() -> None:
    """Which the template wrote, and nothing else of it."""
    for name in ("default", "last_round"):
        rule = {name: {"parity": "swift"}}
        assert pieces(rule, "\n", "template") == [("\n", 1)]
        assert pieces(rule, "<|im_start|>user\n", "template", turn=-1) == [("<|im_start|>user\n", 0)]
    assert pieces("default", "\n", "template") == [("\n", 0)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (EMPTY + "yes", [(EMPTY, 0), ("yes", 1)]),
        ("<think></think>yes", [("<think></think>", 0), ("yes", 1)]),
        ("\n</think>\n\nyes", [("\n</think>\n\n", 0), ("yes", 1)]),  # the prompt opened it
        (THOUGHT + "yes", [(THOUGHT + "yes", 1)]),
        (f"yes {EMPTY}", [(f"yes {EMPTY}", 1)]),
        ("yes", [("yes", 1)]),
    ],
)
def test_ignore_empty_think(text: str, expected: list[tuple[str, float]]) -> None:
    """Only at the start of an answer, only when empty."""
    assert pieces("ignore_empty_think", text) == expected


def test_ignore_think_prefix() -> None:
    """The opening tag alone."""
    assert pieces("ignore_think_prefix", THOUGHT + "yes") == [("<think>\n", 0), ("x\n</think>\n\nyes", 1)]
    assert pieces("ignore_think_prefix", "yes <think>\n") == [("yes <think>\n", 1)]


def test_hermes() -> None:
    """Each call weighs twice, over lines too."""
    call = '<tool_call>\n{"name": "f"}\n</tool_call>'
    assert pieces("hermes", f"see {call} and {call}") == [("see ", 1), (call, 2), (" and ", 1), (call, 2)]


def test_react() -> None:
    """Actions twice, the answer of a tool nothing, but its keyword twice."""
    text = "Thought: a\nAction: f\nAction Input: 1\nObservation: 42\nFinal Answer: b"
    assert pieces("react", text) == [
        ("Thought: a\n", 1),
        ("Action: f\nAction Input: 1\nObservation:", 2),
        (" 42\n", 0),
        ("Final Answer: b", 1),
    ]


def test_patterns() -> None:
    """The first pattern that matches at a place counts; roles are chosen; regex and delimiters multiply."""
    assert pieces({"patterns": {"regex": {"ab": 2, "abc": 3, "c": 4}}}, "abcc") == [("ab", 2), ("cc", 4)]
    assert pieces({"patterns": {"regex": {"x*": 2}}}, "axxb") == [("a", 1), ("xx", 2), ("b", 1)]
    assert pieces({"patterns": {"regex": {"(a)(b)": 2}}}, "ab") == [("ab", 2)]
    assert pieces({"patterns": {"regex": {"a": 2}}}, "a", role="user") == [("a", 1)]
    assert pieces({"patterns": {"regex": {"a": 2}, "role": "user"}}, "a", role="user") == [("a", 2)]
    both = {"patterns": {"regex": {"b": 10}, "delimiters": {"#": [2, 3]}}}
    assert pieces(both, "b#b") == [("b", 10), ("#", 2), ("b", 30)]
    assert pieces({"patterns": {}}, "") == []
