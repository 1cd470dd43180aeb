"""A question without an answer, for reinforcement learning and inference; every other column reaches the rewards."""

from collections.abc import Mapping
from typing import Any

from runner.core.types import Example, Message
from runner.formats._messages import conversation, talk
from runner.formats._row import before, question, text, tools


def prompt(row: Mapping[str, Any]) -> Example:
    """The question as text, or as a list of messages."""
    name, asked = question(row)
    asked = talk(asked)
    if isinstance(asked, list):
        return Example(messages=(*before(row), *conversation(asked, name)), tools=tools(row))
    return Example(messages=(*before(row), Message("user", text(asked, name))), tools=tools(row))
