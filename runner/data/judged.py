"""Rows with a judgement, as the conversations that they are trained as: two answers of which one is better, or one
answer with a label.

What is trained is the answer alone: the assistant turns from where the two conversations part, or after the last
question of a labelled one. Which is which travels with each sequence, as `chosen` or `desirable`: 1 or 0. Refuses rows
that carry no such judgement.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Any, Literal

from runner.core.types import Example, Message
from runner.data.dropped import Dropped

Rows = Literal["conversations", "pairs", "labels"]  # what a row is read as
FORMATS: dict[Rows, str | None] = {"conversations": None, "pairs": "preference", "labels": "kto"}
CHOSEN, DESIRABLE = "chosen", "desirable"


@dataclass(frozen=True)
class Side:
    """One conversation of a row. values: what is known of it."""

    example: Example
    values: Mapping[str, float] = field(default_factory=dict)


def verdict(values: Mapping[str, float]) -> tuple[str, Any] | None:
    """What is known of a sequence, as a person says it: ("answer", "chosen") or ("label", False); None of others."""
    if CHOSEN in values:
        return "answer", "chosen" if values[CHOSEN] else "rejected"
    return ("label", bool(values[DESIRABLE])) if DESIRABLE in values else None


def sides(example: Example, rows: Rows) -> list[Side] | Dropped:
    """The conversations of a row, the chosen one before the rejected one; or why there are none."""
    if rows == "conversations" and example.label is False:
        return Dropped(example.source, example.row, "its label says that the answer is a bad one")
    if rows == "conversations":
        return [Side(example)]
    if rows == "pairs":
        if not example.rejected:
            return Dropped(example.source, example.row, "it has no rejected answer beside the chosen one")
        shared = _shared(example.messages, example.rejected)
        said = {1.0: example.messages, 0.0: example.rejected}
        return [
            Side(replace(example, messages=_silent(messages, shared), rejected=()), {CHOSEN: value})
            for value, messages in said.items()
        ]
    if example.label is None:
        return Dropped(example.source, example.row, "it has no label, true or false")
    asked = max((i for i, message in enumerate(example.messages) if message.role == "user"), default=-1)
    judged = replace(example, messages=_silent(example.messages, asked + 1))
    return [Side(judged, {DESIRABLE: float(example.label)})]


def _shared(chosen: Sequence[Message], rejected: Sequence[Message]) -> int:
    """How many messages both begin with; the last one of each is always its own."""
    pairs = zip(chosen[:-1], rejected[:-1], strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _silent(messages: Sequence[Message], count: int) -> tuple[Message, ...]:
    """The first messages untrained, whatever rules say."""
    return (*(replace(message, loss=False) for message in messages[:count]), *messages[count:])
