"""Alpaca: columns instruction, input (may be empty) and output; `history` and `system` too."""

from collections.abc import Mapping
from typing import Any

from runner.core.types import Example
from runner.formats.query_response import query_response


def alpaca(row: Mapping[str, Any]) -> Example:
    """The instruction, a newline and the input make the question; otherwise as `query_response`."""
    return query_response(row)
