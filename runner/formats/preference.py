"""Two answers to a question: `chosen` and `rejected`, as text or messages; or a conversation, `rejected_response`."""

from collections.abc import Mapping
from typing import Any

from runner.core.types import Example, Message
from runner.formats._messages import conversation, talk
from runner.formats._row import BadRow, first, led, text, tools
from runner.formats.messages import NAMES, messages
from runner.formats.prompt import prompt
from runner.formats.query_response import query_response


def preference(row: Mapping[str, Any]) -> Example:
    """messages has the better ending, rejected the other. The question may be in both, or in columns of its own."""
    if row.get("rejected_messages") is not None:
        made = messages(row)
        other = led(row, conversation(row["rejected_messages"], "rejected_messages"))
        return _different(made.messages, other, tools(row))
    if row.get("rejected_response") is not None:
        made = messages(row) if first(row, NAMES) else query_response(row)
        asked = _up_to_user(made.messages)
        return _different(made.messages, (*asked, *_answer(row["rejected_response"], "rejected_response")), tools(row))
    missing = [name for name in ("chosen", "rejected") if row.get(name) is None]
    if missing:
        what = f"{' and '.join(missing)} {'are' if len(missing) > 1 else 'is'} missing"
        raise BadRow(what, "a pair has chosen and rejected, or messages and rejected_response")
    written = [talk(row[name]) for name in ("chosen", "rejected")]
    if any(isinstance(held, str) for held in written):  # one of them alone is a text that looks like messages
        written = [row[name] for name in ("chosen", "rejected")]
    chosen, rejected = map(_answer, written, ("chosen", "rejected"))
    if any(message.role == "user" for message in chosen):  # whole conversations
        return _different(led(row, chosen), led(row, rejected), tools(row))
    asked = _question(row)
    return _different((*asked, *chosen), (*asked, *rejected), tools(row))


def _question(row: Mapping[str, Any]) -> tuple[Message, ...]:
    """What comes before both answers, in columns of its own."""
    return _up_to_user(messages(row).messages) if first(row, NAMES) else prompt(row).messages


def _answer(held: Any, name: str) -> tuple[Message, ...]:
    if isinstance(held, Mapping):
        held = [held]
    return conversation(held, name) if isinstance(held, list) else (Message("assistant", text(held, name)),)


def _up_to_user(said: tuple[Message, ...]) -> tuple[Message, ...]:
    """The conversation up to its last user message."""
    users = [index for index, message in enumerate(said) if message.role == "user"]
    return said[: users[-1] + 1] if users else said


def _different(chosen: tuple[Message, ...], rejected: tuple[Message, ...], offered: Any) -> Example:
    for said, name in ((chosen, "chosen"), (rejected, "rejected")):
        if said[-1].role != "assistant":
            raise BadRow(f"{name} does not end with an assistant turn")
        if not any(message.role == "user" for message in said):
            raise BadRow("there is no question before the answers")
    if chosen == rejected:
        raise BadRow("chosen and rejected are the same")
    return Example(messages=chosen, rejected=rejected, tools=offered)
