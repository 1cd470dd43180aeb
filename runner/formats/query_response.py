"""A question and its answer in two columns, such as query and response, question and answer; `history` before them."""

from collections.abc import Mapping
from typing import Any

from runner.core.types import Example, Message
from runner.formats._row import SYSTEM, BadRow, answer, column, parsed, question, text, tools


def query_response(row: Mapping[str, Any]) -> Example:
    """system, the pairs of history, the question, the answer."""
    name, asked = question(row)
    said = (Message("user", text(asked, name)), Message("assistant", answer(row)))
    return Example(messages=(*before(row), *said), tools=tools(row))


def before(row: Mapping[str, Any]) -> tuple[Message, ...]:
    """The system prompt and the earlier rounds of a row: columns `system`, `history` ([[question, answer], ...])."""
    made: list[Message] = []
    name = column(row, SYSTEM)
    if name is not None and row[name]:
        made.append(Message("system", text(row[name], name)))
    history = parsed(row["history"], "history") if row.get("history") else []
    if not isinstance(history, list) or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in history):
        raise BadRow("history is no list of pairs")
    for asked, said in history:
        made += [
            Message("user", text(asked, "a question of history")),
            Message("assistant", text(said, "an answer of history")),
        ]
    return tuple(made)
