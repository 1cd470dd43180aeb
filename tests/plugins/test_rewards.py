"""The shipped rewards, answer by answer."""

from typing import Any

import pytest

from runner.core import registry


def reward(name: str) -> Any:
    """The function of a shipped reward."""
    return registry.load("rewards", name)


@pytest.mark.parametrize(
    ("text", "expected", "forbidden", "score"),
    [
        ("I am Robin, made by Acme.", "robin", None, 1.0),
        ("I am Robinson.", "Robin", None, 0.0),
        ("I'm Robin's friend", "Robin", None, 1.0),
        ("It is Paris.", ["Lyon", "paris"], None, 1.0),
        ("Parisian", ["Paris"], None, 0.0),
        ("I am Robin, not SmolLM.", ["Robin"], ["SmolLM", "ChatGPT"], 0.0),
        ("I am Robin.", ["Robin"], ["SmolLM", "ChatGPT"], 1.0),
        ("我是小智助手。", "小智", None, 1.0),
        ("We use C++ here", "C++", None, 1.0),
        ("It is 4.", 4, None, 1.0),
        ("It is 42.", 4, None, 0.0),
        ("New\n York", "new york", None, 1.0),
        ("<think>\nParis?\n</think>\n\nLyon", "Paris", None, 0.0),
        ("", "Paris", None, 0.0),
        ("anything", [], None, None),
        ("anything", " ", None, None),
        ("anything", ["", "thing"], None, 0.0),
        ("I am Robin.", "Robin", "", 1.0),
        ("swift-robot speaking", "swift-robot", None, 1.0),
    ],
)
def test_contains(text: str, expected: Any, forbidden: Any, score: float | None) -> None:
    """Whole words of any case, none forbidden, thoughts left out."""
    assert reward("contains")([text], expected=[expected], forbidden=[forbidden]) == [score]


def test_contains_without_a_forbidden_column() -> None:
    """The column is optional."""
    assert reward("contains")(["a b", "c"], expected=["b", "d"]) == [1.0, 0.0]


def test_exact_match() -> None:
    """Blanks at the ends and thoughts left aside; case matters unless told otherwise."""
    match = reward("exact_match")
    texts = [" Paris\n", "<think>\nHm\n</think>\n\nParis", "paris", "Paris."]
    assert match(texts, expected=["Paris"] * 4) == [1.0, 1.0, 0.0, 0.0]
    assert match(["paris", "4"], expected=[["Lyon", "Paris"], 4], ignore_case=True) == [1.0, 1.0]


def test_regex() -> None:
    """A pattern from YAML or a column of patterns."""
    match = reward("regex")
    assert match(["It is 42.", "none"], pattern=r"\d+") == [1.0, 0.0]
    assert match(["42", "It is 42"], pattern=r"\d+", whole=True) == [1.0, 0.0]
    assert match(["ab", "cd", "x"], column="form", form=["a", "a", None]) == [1.0, 0.0, None]
    with pytest.raises(Exception, match="pattern or a column"):
        match(["a"])
    with pytest.raises(Exception, match=r"reward.regex.params.pattern: '\(' is no regular expression: missing \)"):
        match(["a"], pattern="(")


@pytest.mark.parametrize(
    ("text", "tagged", "untagged"),
    [
        ("<think>a</think><answer>b</answer>", 1.0, 1.0),
        ("<think>\na\n</think>\n\n<answer>\nb\n</answer>\n", 1.0, 1.0),
        ("<think>\na\n</think>\n\nb", 0.0, 1.0),
        ("a</think><answer>b</answer>", 0.0, 0.0),
        ("<think>a</think><answer>b</answer> more", 0.0, 1.0),
        ("<think>a</think><think>b</think><answer>c</answer>", 0.0, 0.0),
        ("<think>a</think>", 0.0, 0.0),
        ("<think>a", 0.0, 0.0),
        ("<answer>b</answer>", 0.0, 0.0),
    ],
)
def test_format(text: str, tagged: float, untagged: float) -> None:
    """The think/answer form, nothing before, between or after it."""
    assert reward("format")([text]) == [tagged]
    assert reward("format")([text], answer_tags=False) == [untagged]


def test_reward_models_of_several_devices_do_not_share_the_first_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reward's process starts with the environment of the rank, not with its current device."""
    device = reward("reward_model").__globals__["_device"]
    assert device(0) == "cpu" and device(8) == "cuda:0"
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert (device(8), device(1), device(0)) == ("cuda:3", "cuda:0", "cpu")
