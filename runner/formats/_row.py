"""What the formats share: finding a column for a role, reading texts, and the words for rows that cannot be read."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from runner.core.errors import DataError
from runner.core.types import Message

QUERY = ("query", "prompt", "question", "problem", "input", "instruction")
RESPONSE = ("response", "answer", "output", "completion", "solution", "target")
SYSTEM = ("system", "system_prompt")


class BadRow(DataError):
    """A row that a format cannot read. reason: the same words for all rows of a kind; detail: this one's."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason, self.detail = reason, detail
        super().__init__(f"{reason} ({detail})" if detail else reason)


class Unclear(DataError):
    """Two columns could have one role: the recipe has to say which."""


def column(row: Mapping[str, Any], choices: Sequence[str]) -> str | None:
    """The one column of a role, or None.

    Raises:
        Unclear: there are several.
    """
    found = [name for name in choices if row.get(name) is not None]
    if len(found) > 1:
        raise Unclear(
            f"columns {' and '.join(found)} could be the {choices[0]}. Say which: columns: {{{found[0]}: {choices[0]}}}"
        )
    return found[0] if found else None


def first(row: Mapping[str, Any], choices: Sequence[str]) -> str | None:
    """The first of the columns that is there."""
    return next((name for name in choices if row.get(name) is not None), None)


def question(row: Mapping[str, Any]) -> tuple[str, Any]:
    """The column of the question and what it holds; an instruction and its input are joined by a newline.

    Raises:
        Unclear: several columns could hold it. BadRow: none does.
    """
    if row.get("instruction") is not None:
        rest = {name: value for name, value in row.items() if name not in ("instruction", "input")}
        other = column(rest, QUERY)
        if other is not None:
            raise Unclear(
                f"columns instruction and {other} could both be the query. Say which: columns: {{{other}: query}}"
            )
        parts = [text(row[name], name) for name in ("instruction", "input") if not _blank(row.get(name))]
        return "instruction", "\n".join(parts)
    name = column(row, QUERY)
    if name is None:
        raise BadRow("the question is missing", f"columns for it: {', '.join(QUERY)}")
    return name, row[name]


def _blank(value: Any) -> bool:
    return not value or (isinstance(value, str) and not value.strip())


def answer(row: Mapping[str, Any]) -> str:
    """The answer of a row.

    Raises:
        Unclear: several columns could hold it. BadRow: none does, or it is no text.
    """
    name = column(row, RESPONSE)
    if name is None:
        raise BadRow("the answer is missing", f"columns for it: {', '.join(RESPONSE)}")
    return text(row[name], name)


def text(value: Any, name: str) -> str:
    """A text that is there and not empty."""
    if value is None:
        raise BadRow(f"{name} is missing")
    if not isinstance(value, str):
        raise BadRow(f"{name} is no text", f"{type(value).__name__} {short(value)}")
    if not value.strip():
        raise BadRow(f"{name} is empty")
    return value


def parsed(value: Any, name: str) -> Any:
    """A value that may be written as JSON text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise BadRow(f"{name} is no JSON", str(error)) from None


def tools(row: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """The functions that a row offers: a list, or JSON text of one; `functions` is OpenAI's older name for it."""
    older = row.get("tools") is None
    held = row.get("functions") if older else row["tools"]
    made = None if held is None or held == "" else parsed(held, "tools")
    if made is None or made == []:  # maybe written as text
        return ()
    made = [parsed(tool, "tools") for tool in made] if isinstance(made, list) else made
    if not isinstance(made, list) or not all(isinstance(tool, dict) for tool in made):
        raise BadRow("tools is no list of functions", short(held))
    return tuple({"type": "function", "function": one} if older and "function" not in one else one for one in made)


def short(value: Any) -> str:
    """A value as it is written, cut to 60 characters."""
    words = repr(value)
    return words if len(words) <= 60 else words[:57] + "..."


def led(row: Mapping[str, Any], said: tuple[Message, ...]) -> tuple[Message, ...]:
    """A conversation with the row's column `system` in front, where it has no system prompt of its own."""
    name = column(row, SYSTEM)
    if name is None or not row[name] or said[0].role == "system":
        return said
    return (Message("system", text(row[name], name)), *said)


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
