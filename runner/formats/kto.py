"""One answer and whether it is a good one: a conversation, or a question and an answer, with `label` true or false."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from runner.core.types import Example
from runner.formats._messages import conversation, talk
from runner.formats._row import QUERY, RESPONSE, BadRow, column, first, led, short, tools
from runner.formats.messages import NAMES, messages
from runner.formats.prompt import prompt
from runner.formats.query_response import query_response

LABELS = {"true": True, "1": True, "false": False, "0": False}  # as tables write them


def kto(row: Mapping[str, Any]) -> Example:
    """The conversation ends with the answer that the label judges. Question and answer may be lists of messages."""
    label = LABELS.get(str(row.get("label")).lower())
    if row.get("label") is None:
        raise BadRow("the label is missing", "an answer has a label, true or false")
    if label is None:
        raise BadRow("label is neither true nor false", short(row["label"]))
    made = _talk(row)
    if made.messages[-1].role != "assistant":
        raise BadRow("the conversation does not end with an assistant turn")
    return replace(made, label=label)


def _talk(row: Mapping[str, Any]) -> Example:
    if first(row, NAMES):
        return messages(row)
    said = column(row, RESPONSE)
    held = None if said is None else talk(row[said])
    if said is None or not isinstance(held, list):
        return query_response(row)
    answer = conversation(held, said)
    if any(message.role == "user" for message in answer):  # the whole conversation
        return Example(messages=led(row, answer), tools=tools(row))
    asked = prompt({name: value for name, value in row.items() if name in QUERY or name not in RESPONSE})
    return replace(asked, messages=(*asked.messages, *answer))
