"""A question and its answer in two columns, such as query and response, question and answer; `history` before them.

The question may be a list of messages, and its answer another, as in TRL's conversational prompts and completions.
"""

from collections.abc import Mapping
from typing import Any

from runner.core.types import Example, Message
from runner.formats._messages import conversation, talk
from runner.formats._row import RESPONSE, answer, before, column, question, text, tools


def query_response(row: Mapping[str, Any]) -> Example:
    """system, the pairs of history, the question, the answer."""
    name, asked = question(row)
    asked = talk(asked)
    if isinstance(asked, list):
        return Example(messages=(*before(row), *conversation(asked, name), *_said(row)), tools=tools(row))
    said = (Message("user", text(asked, name)), Message("assistant", answer(row)))
    return Example(messages=(*before(row), *said), tools=tools(row))


def _said(row: Mapping[str, Any]) -> tuple[Message, ...]:
    """The answer to a list of messages: a list as well, or a text."""
    name = column(row, RESPONSE)
    held = None if name is None else talk(row[name])
    return conversation(held, str(name)) if isinstance(held, list) else (Message("assistant", answer(row)),)
