"""A question and its answer in two columns, such as query and response, question and answer; `history` before them."""

from collections.abc import Mapping
from typing import Any

from runner.core.types import Example, Message
from runner.formats._row import answer, before, question, text, tools


def query_response(row: Mapping[str, Any]) -> Example:
    """system, the pairs of history, the question, the answer."""
    name, asked = question(row)
    said = (Message("user", text(asked, name)), Message("assistant", answer(row)))
    return Example(messages=(*before(row), *said), tools=tools(row))
