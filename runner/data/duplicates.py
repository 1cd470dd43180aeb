"""Rows that mean exactly the same: told in one sentence each, taken out on request (`mix.duplicates: drop`).

Two questions are asked: which rows to train on are there more than once (copies that `take` makes are wanted and do not
count), and which rows kept aside for validation are trained on too. What a row means counts, not how its file writes
it: the conversation, the other answer, the label, the tools, the text.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from runner.core.types import Example, Message
from runner.data.dropped import COPY, LEAK, Dropped

Wanted = Literal["keep", "drop"]


Place = tuple[str, int]  # a file, and the number of a row there


@dataclass(frozen=True)
class Found:
    """gone: the rows to take out, and why. told: a sentence for each kind that was found."""

    gone: dict[Place, str]
    told: list[str]

    @property
    def dropped(self) -> list[Dropped]:
        """What is taken out."""
        return [Dropped(source, row, reason) for (source, row), reason in self.gone.items()]


def look(train: Iterable[tuple[Place, bytes]], aside: set[bytes], wanted: Wanted) -> Found:
    """Look for rows that mean the same.

    Args:
        train: the rows to train on, each with its meaning. aside: the meanings of rows kept aside for validation.
        wanted: whether those that are found are to be trained on.
    """
    places: dict[Place, bytes] = {}
    first: dict[bytes, Place] = {}
    copies: dict[Place, str] = {}  # a row, and the file of the row that it is the same as
    for place, mark in train:
        if place in places:
            continue  # a copy that was asked for
        places[place] = mark
        if first.setdefault(mark, place) != place:
            copies[place] = first[mark][0]
    leaks = [place for place, mark in places.items() if mark in aside]
    told = []
    if copies:
        pairs = [source if source == other else f"{source} and {other}" for (source, _), other in copies.items()]
        told.append(_sentence(len(copies), "to train on are the same as an earlier one", pairs, wanted))
    if leaks:
        sources = [source for source, _ in leaks]
        told.append(_sentence(len(leaks), "to train on are kept aside for validation too", sources, wanted))
    if wanted == "keep":
        return Found({}, told)
    return Found({**dict.fromkeys(copies, COPY), **dict.fromkeys(leaks, LEAK)}, told)


def meaning(example: Example) -> bytes:
    """Sixteen bytes that are the same for two rows only if they mean the same."""
    parts: list[object] = [*_said(example.messages), "rejected", *_said(example.rejected)]
    parts += [example.label, example.tools, example.text]
    return hashlib.blake2b("\x1e".join(map(str, parts)).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _said(messages: Sequence[Message]) -> Iterable[object]:
    for message in messages:
        yield message.role
        yield message.content
        if message.tool_calls or message.name or message.reasoning is not None:
            yield (message.tool_calls, message.name, message.reasoning)
        if message.loss is not None or message.loss_scale is not None:  # what is learned of it is part of the meaning
            yield (message.loss, message.loss_scale)


def _sentence(count: int, what: str, sources: Sequence[str], wanted: Wanted) -> str:
    shown = ", ".join(f"{number:,} in {source}" for source, number in Counter(sources).most_common(3))
    fate = "they are taken out" if wanted == "drop" else "mix.duplicates=drop takes them out"
    return f"{count:,} rows {what} ({shown}{', …' if len(set(sources)) > 3 else ''}); {fate}"
