"""One answer and whether it is a good one: a conversation, or a question and an answer, with `label` true or false."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from runner.core.types import Example
from runner.formats._row import BadRow, first, short
from runner.formats.messages import NAMES, messages
from runner.formats.query_response import query_response


def kto(row: Mapping[str, Any]) -> Example:
    """The conversation ends with the answer that the label judges."""
    label = row.get("label")
    if not isinstance(label, bool):
        raise BadRow("label is neither true nor false", short(label))
    made = messages(row) if first(row, NAMES) else query_response(row)
    if made.messages[-1].role != "assistant":
        raise BadRow("the conversation does not end with an assistant turn")
    return replace(made, label=label)
