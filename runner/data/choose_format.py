"""Which format reads a row, told by its columns; the recipe's `format` decides where it says one.

What a row has most particularly wins: two answers, a label, a conversation, an instruction, a question. Refuses rows
whose columns mean nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

from runner.core import registry
from runner.core.errors import DataError
from runner.core.types import Example
from runner.formats._row import QUERY, RESPONSE
from runner.formats.messages import NAMES

Format = Callable[[Mapping[str, Any]], Example]


def named(row: Mapping[str, Any], told: str) -> str:
    """The name of the format for a row.

    Args:
        told: where the row lies, for messages.

    Raises:
        DataError: no format knows these columns.
    """
    made = _of(row, {name for name, value in row.items() if value is not None}) or _of(row, set(row))
    if made is None:
        raise DataError(
            f"{told}: its columns ({', '.join(sorted(map(str, row))) or 'none'}) are not those of a known format. "
            "Say what they mean: columns: {old: query, other: response}, or choose a format: NAME."
        )
    return made


def _of(row: Mapping[str, Any], held: AbstractSet[str]) -> str | None:
    """The format that has such columns."""
    if {"chosen", "rejected"} <= held or held & {"rejected_response", "rejected_messages"}:
        return "preference"
    talks = next((name for name in NAMES if name in held), None)
    if isinstance(row.get("label"), bool) and (talks or held & set(RESPONSE)):
        return "kto"
    if talks is not None:
        return "messages" if _spoken(row[talks]) else "sharegpt"
    if "instruction" in held:
        return "alpaca" if held & set(RESPONSE) else "prompt"
    if held & set(QUERY):
        return "query_response" if held & set(RESPONSE) else "prompt"
    return "text" if held & {"text", "content"} else None


def _spoken(held: Any) -> bool:
    """Whether a conversation is written in roles and contents."""
    first = held[0] if isinstance(held, Sequence) and held and not isinstance(held, str) else {"role": ""}
    return isinstance(first, Mapping) and "role" in first


def load(name: str, places: Sequence[Path], key: str = "mix.datasets") -> Format:
    """The function of a format, the user's in plugins/formats or a shipped one."""
    made: Format = registry.load("formats", name, places, key)
    return made
