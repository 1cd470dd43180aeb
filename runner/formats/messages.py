"""Conversations in a column `messages`: [{role, content, tool_calls, reasoning_content, loss, loss_scale}, ...]."""

from collections.abc import Mapping
from typing import Any

from runner.core.types import Example, Message
from runner.formats._messages import conversation
from runner.formats._row import SYSTEM, column, first, text, tools

NAMES = ("messages", "conversations", "conversation")


def messages(row: Mapping[str, Any]) -> Example:
    """A row with a list of messages, or JSON text of one; a column `system` stands in front unless one is there."""
    name = first(row, NAMES) or "messages"
    made = conversation(row.get(name), name)
    said = column(row, SYSTEM)
    if said is not None and row[said] and made[0].role != "system":
        made = (Message("system", text(row[said], said)), *made)
    return Example(messages=made, tools=tools(row))
