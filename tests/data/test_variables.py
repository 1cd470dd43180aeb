"""`{{NAME}}` in data: filled in, by language where asked; never left over."""

import pytest

from runner.core.errors import ConfigError, DataError
from runner.data.read import Row
from runner.data.variables import check, fill, left_over


def filled(values: dict, **columns: object) -> dict:
    """A row's columns after filling in."""
    return fill(Row("f.jsonl", 0, columns, 1), values)


def test_every_text_of_a_row_is_filled_in() -> None:
    """However deep, in large or small letters, with blanks or not; the rest stays."""
    row = {
        "messages": [{"role": "user", "content": "{{NAME}} {{ AUTHOR }} {{name}} {{OTHER}}"}],
        "n": 3,
        "q": "{{NAME}}",
    }
    made = filled({"NAME": "Bo", "AUTHOR": "us"}, **row)
    assert made == {"messages": [{"role": "user", "content": "Bo us Bo {{OTHER}}"}], "n": 3, "q": "Bo"}


@pytest.mark.parametrize("value", [["小波", "Bo"], {"zh": "小波", "en": "Bo"}])
def test_values_by_language(value: object) -> None:
    """By the row's tag: a list is Chinese, English."""
    assert filled({"NAME": value}, q="{{NAME}}", tag="zh")["q"] == "小波"
    assert filled({"NAME": value}, q="{{NAME}}", lang="en")["q"] == "Bo"


def test_a_row_without_its_language_is_refused() -> None:
    """Unless there is a default, or one value."""
    with pytest.raises(DataError, match=r"f.jsonl:1: \{\{NAME\}\} has values for zh, en, and the row has no column"):
        filled({"NAME": ["小波", "Bo"]}, q="{{NAME}}")
    with pytest.raises(DataError, match="the row has 'fr' as its language"):
        filled({"NAME": ["小波", "Bo"]}, q="{{NAME}}", tag="fr")
    assert filled({"NAME": {"zh": "小波", "default": "Bo"}}, q="{{NAME}}", tag="fr")["q"] == "Bo"
    assert filled({"NAME": ["Bo"]}, q="{{NAME}}")["q"] == "Bo"
    assert filled({"NAME": ["小波", "Bo"]}, q="no name")["q"] == "no name"


@pytest.mark.parametrize(
    "text", ["I am {{NAME}}.", "{{ MODEL_NAME }}", "我是{{AUTHOR}}", "{{name}}", "I'm {{Author}}", "x {{AB}}"]
)
def test_what_looks_like_a_placeholder_is_found(text: str) -> None:
    """Capitals, and the two names of self-cognition in any letters."""
    assert left_over([{"content": text}]) is not None


@pytest.mark.parametrize(
    "text", [r"\overline{{AB}}", "x^{{AB}}", "{{ user.name }}", "{{item}}", "{NAME}", "{{A}}", "{{}}", "}}{{"]
)
def test_other_uses_of_braces_are_left_alone(text: str) -> None:
    """Mathematics and other template languages."""
    assert left_over(text) is None


def test_a_variable_may_stand_for_itself() -> None:
    """The way to train on text about placeholders."""
    values = {"NAME": "{{NAME}}"}
    assert left_over(filled(values, q="{{NAME}} {{AUTHOR}}")["q"], values) == "{{AUTHOR}}"


@pytest.mark.parametrize("values", [{"A": []}, {"A": ["x", "y", "z"]}, {"A": {}}, {"NAME": "x", "name": "y"}])
def test_values_that_say_nothing_are_refused(values: dict) -> None:
    """While planning."""
    with pytest.raises(ConfigError, match=r"mix.variables\."):
        check(values)
