"""The columns of a row that go along with its answers into a file of them, so that these can be scored again.

Dates and the like become text, a number that is none (NaN, infinity) null. What JSON does not hold, such as bytes, is
not carried and neither is what is wider than may be: both are named under `left_out`.
"""

import datetime
import decimal
import json
import math
import uuid
from collections.abc import Container, Mapping
from typing import Any

LEFT_OUT = "left_out"
SPELLED = (datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, uuid.UUID)


def carried(columns: Mapping[str, Any], taken: Container[str], widest: int | None = None) -> dict[str, Any]:
    """What a line of answers says after its own keys.

    Args:
        taken: the line's own keys. widest: characters of a column as JSON.
    """
    made, lost = dict[str, Any](), list[str]()
    for name, value in columns.items():
        if name in taken or name == LEFT_OUT:
            continue
        plain = spelled(value)
        try:
            width = len(json.dumps(plain, ensure_ascii=False))
        except (TypeError, ValueError):
            width = None
        if width is None or (widest is not None and width > widest):
            lost.append(name)
        else:
            made[name] = plain
    return {**made, **({LEFT_OUT: lost} if lost else {})}


def spelled(value: Any) -> Any:
    """The value with dates and exact numbers in it as text, and null for NaN and infinities."""
    if isinstance(value, Mapping):
        return {name: spelled(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [spelled(inner) for inner in value]
    if isinstance(value, SPELLED):
        return value.isoformat() if hasattr(value, "isoformat") else str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
