"""Plain text for continued pre-training, in a column `text`; no chat template."""

from collections.abc import Mapping
from typing import Any

from runner.core.types import Example
from runner.formats import _row


def text(row: Mapping[str, Any]) -> Example:
    """All of the text is trained on, between the tokens that begin and end a document."""
    name = _row.column(row, ("text", "content"))
    return Example(messages=(), text=_row.text(row.get(name) if name else None, name or "text"))
