"""Filters: expressions over columns, and nothing else of Python."""

import pytest

from runner.core.errors import ConfigError, DataError
from runner.data.row_filter import compiled

ROW = {"response": "hello", "tag": "en", "score": 7, "list": [1, 2]}


@pytest.mark.parametrize(
    ("expression", "kept"),
    [
        ('len(response) < 10 and tag == "en"', True),
        ("score >= 8 or not list", False),
        ('"ell" in response', True),
        ('startswith(lower(response), "HE")', False),
        ('tag in ["zh", "fr"]', False),
        ("list[0] + 1 == 2", True),
        ("any([score > 5, False])", True),
    ],
)
def test_expressions(expression: str, kept: bool) -> None:
    """Comparisons, logic, arithmetic, a few functions."""
    assert compiled(expression, "filter")(ROW, "f:1") is kept


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "a b",
        "().__class__",
        "__import__('os')",
        "open('x')",
        "[x for x in list]",
        "lambda: 1",
        "len(a=1)",
        "x := 1",
    ],
)
def test_anything_else_is_refused(expression: str) -> None:
    """While planning."""
    with pytest.raises(ConfigError, match="filter"):
        compiled(expression, "filter")


def test_a_row_that_it_does_not_fit_is_told() -> None:
    """With its place."""
    with pytest.raises(
        DataError, match=r"f:1: filter asks for the column 'respons', which the row lacks. Did you mean response\?"
    ):
        compiled("respons == 1", "filter")(ROW, "f:1")
    with pytest.raises(DataError, match="f:1: filter fails"):
        compiled("tag > 5", "filter")(ROW, "f:1")
