"""Rules: how they are found, combined and refused."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.core.errors import ConfigError, PluginError
from runner.core.places import package_root
from runner.core.types import Span
from runner.data import rules
from runner.data.rules import _times

ROOTS = [package_root()]


def weights(names: Any, text: str, **span: Any) -> list[float]:
    """The weight of each character."""
    made = rules.load(names, ROOTS).weigh(Span(text, span.pop("role", "assistant"), 1, span.pop("last", True)), **span)
    return [weight for count, weight in made for _ in range(count)]


def test_default_stands_in_front_unless_a_base_rule_is_there() -> None:
    """In every form that a recipe can have."""
    assert rules.named(["hermes"]) == [("default", {}), ("hermes", {})]
    assert rules.named(["hermes", "all"]) == [("hermes", {}), ("all", {})]
    assert rules.named({"last_round": None, "hermes": {"regex": {}}}) == [("last_round", {}), ("hermes", {"regex": {}})]
    assert rules.named([{"patterns": {"regex": {"a": 2}}}])[1] == ("patterns", {"regex": {"a": 2}})
    assert rules.named([]) == [("default", {})]


def test_factors_multiply_where_pieces_overlap() -> None:
    """`abc` twice and `cd` three times make `c` count six times."""
    names = [{"patterns": {"regex": {"abc": 2}}}, {"patterns": {"regex": {"cd": 3}}}]
    assert weights(names, "abcde") == [2, 2, 6, 3, 1]
    assert weights(names, "abcde", role="user") == [0] * 5
    assert weights(names, "abcde", scale=0.5) == [0.5] * 5
    assert weights(names, "abcde", role="user", loss=True) == [1] * 5


CUTS = st.lists(st.tuples(st.integers(1, 5), st.sampled_from([0.0, 0.5, 1.0, 2.0])), min_size=1)


@given(left=CUTS, right=CUTS)
def test_combined_pieces_cover_the_same_characters(left: list[Any], right: list[Any]) -> None:
    """Character by character, whatever the cuts."""
    flat = [[weight for count, weight in side for _ in range(count)] for side in (left, right)]
    short = min(map(len, flat))
    cut = [_cut(side, short) for side in (left, right)]
    made = [weight for count, weight in _times(*cut) for _ in range(count)]
    assert made == [a * b for a, b in zip(flat[0][:short], flat[1][:short], strict=True)]


def _cut(pieces: list[tuple[int, float]], length: int) -> list[tuple[int, float]]:
    made: list[tuple[int, float]] = []
    for count, weight in pieces:
        made.append((min(count, length - sum(n for n, _ in made)), weight))
    return [piece for piece in made if piece[0]]


def plugin(folder: Path, body: str, name: str = "mine") -> list[Path]:
    """A rule of the user's, and the search roots."""
    file = folder / "plugins" / "loss_scales" / f"{name}.py"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(body)
    return [folder, package_root()]


REFUSED = {
    "changes the text": ("def mine(span):\n    return [(span.text.strip(), 1.0)]\n", "do not make up the span"),
    "negative": ("def mine(span):\n    return [(span.text, -1.0)]\n", "Weights are numbers from 0 on"),
    "not a number": ("def mine(span):\n    return [(span.text, float('nan'))]\n", "Weights are numbers from 0 on"),
    "fails": ("def mine(span):\n    return 1 / 0\n", "ZeroDivisionError"),
    "no pairs": ("def mine(span):\n    return [span.text]\n", "failed on"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_rule_that_is_wrong_is_named(case: str, tmp_path: Path) -> None:
    """With its file and what it did."""
    body, sentence = REFUSED[case]
    roots = plugin(tmp_path, body)
    with pytest.raises(PluginError, match=sentence) as told:
        rules.load(["mine"], roots).weigh(Span(" words ", "assistant", 1, True))
    assert "mine.py" in str(told.value)


CHECKED = {
    "no such rule": (["hermess"], "no loss scale named 'hermess'. Did you mean hermes?"),
    "no such parameter": ([{"patterns": {"regx": {}}}], "Did you mean regex?"),
    "not a pattern": ([{"patterns": {"regex": {"(": 1}}}], "is no regular expression"),
    "not a mapping": ([{"patterns": {"regex": ["a"]}}], "does not take"),
    "delimiter with one number": ([{"patterns": {"delimiters": {"a": 2}}}], "does not take"),
    "wrong type": ([{"default": {"parity": 3}}], "should be like its default"),
}


@pytest.mark.parametrize("case", CHECKED)
def test_mistakes_in_a_recipe_are_told_while_planning(case: str) -> None:
    """Nothing has to be read for it."""
    names, sentence = CHECKED[case]
    with pytest.raises(ConfigError) as told:
        rules.check(names, ROOTS)
    assert sentence in str(told.value)


def test_a_rule_can_be_yaml_of_the_users_own(tmp_path: Path) -> None:
    """conf/loss_scale/NAME.yaml in front of the shipped one, with parameters of the recipe on top."""
    folder = tmp_path / "conf" / "loss_scale"
    folder.mkdir(parents=True)
    (folder / "hermes.yaml").write_text("# Mine.\nhermes:\n  rule: patterns\n  regex: {abc: 5}\n")
    made = rules.load(["hermes"], [tmp_path, *ROOTS]).weigh(Span("abc", "assistant", 1, True))
    assert made == [(3, 5.0)]
    changed = rules.load([{"hermes": {"regex": {"a": 3}}}], [tmp_path, *ROOTS])
    assert changed.weigh(Span("ab", "assistant", 1, True)) == [(1, 3.0), (1, 1.0)]
    (folder / "broken.yaml").write_text("# Mine.\nother: {}\n")
    with pytest.raises(ConfigError, match="says nothing about broken"):
        rules.check(["broken"], [tmp_path, *ROOTS])


def test_sources_change_with_text_and_parameters(tmp_path: Path) -> None:
    """So that a cache never serves labels of an older rule."""
    roots = plugin(tmp_path, "def mine(span, *, weight: float = 1.0):\n    return [(span.text, weight)]\n")
    first = rules.sources(["mine"], roots)
    assert rules.sources([{"mine": {"weight": 2.0}}], roots)["mine"] != first["mine"]
    plugin(tmp_path, "def mine(span, *, weight: float = 2.0):\n    return [(span.text, weight)]\n")
    assert rules.sources(["mine"], roots)["mine"] != first["mine"]
