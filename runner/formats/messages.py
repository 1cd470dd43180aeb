"""Conversations in a column `messages`: [{role, content, tool_calls, reasoning_content, loss, loss_scale}, ...]."""

from collections.abc import Mapping
from typing import Any

from runner.core.types import Example
from runner.formats._messages import conversation
from runner.formats._row import first, led, tools

NAMES = ("messages", "conversations", "conversation")


def messages(row: Mapping[str, Any]) -> Example:
    """A row with a list of messages, or JSON text of one; a column `system` stands in front unless one is there."""
    name = first(row, NAMES) or "messages"
    return Example(messages=led(row, conversation(row.get(name), name)), tools=tools(row))
