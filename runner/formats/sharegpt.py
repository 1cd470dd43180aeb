"""ShareGPT: `conversations`: [{from: human|gpt|function_call|observation, value}, ...], or {human, assistant} pairs."""

from collections.abc import Mapping
from typing import Any

from runner.core.types import Example
from runner.formats._row import BadRow, first, parsed
from runner.formats.messages import NAMES, messages


def sharegpt(row: Mapping[str, Any]) -> Example:
    """As `messages`, after pairs are taken apart."""
    name = first(row, NAMES) or "conversations"
    held = parsed(row.get(name), name)
    if isinstance(held, list) and held and all(isinstance(each, Mapping) and "human" in each for each in held):
        if not all("assistant" in each for each in held):
            raise BadRow("a pair has no assistant", name)
        said = [
            {"role": role, "content": pair[key]}
            for pair in held
            for role, key in (("user", "human"), ("assistant", "assistant"))
        ]
        return messages({**row, name: said})
    return messages({**row, name: held})
