"""How many rows and tokens a mix has, as far as can be told without reading it whole: for `plan`, before any download.

Lines of local JSONL and CSV files are counted, `#take` is believed; tokens are guessed from bytes.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runner.core.specs import Dataset, Mix
from runner.data.sources import parse

BYTES_A_TOKEN = 4.2  # of JSON lines in English with common tokenizers; Chinese is near it too, in UTF-8
SMALL = 50 * 1024**2  # a JSON list is parsed up to this size


@dataclass(frozen=True)
class Size:
    """rows and tokens, None where nothing is known; exact: whether the rows were counted, counted: the tokens too.

    different: rows without copies.
    """

    rows: int | None
    tokens: int | None
    exact: bool
    counted: bool = False
    different: int | None = None


def size_of_mix(mix: Mix, places: Sequence[Path]) -> Size:
    """Rows and tokens to train on: the datasets together, less what is kept aside for validation."""
    sizes = [size_of(entry, places) for entry in mix.datasets]
    if not sizes or any(size.rows is None for size in sizes):
        return Size(None, None, False)
    rows = sum(size.rows or 0 for size in sizes)
    aside = mix.validation.rows or round(sum(size.different or 0 for size in sizes) * mix.validation.fraction)
    known = all(size.tokens is not None for size in sizes)
    tokens = sum(size.tokens or 0 for size in sizes) if known else None
    left = max(0, rows - aside)
    return Size(
        left, tokens * left // rows if tokens is not None and rows else tokens, all(size.exact for size in sizes)
    )


def size_of(entry: str | Dataset, places: Sequence[Path]) -> Size:
    """Rows and tokens of one dataset."""
    source = parse(entry, places, hub=None)
    take, files = source.spec.take, source.files
    if not files:
        return Size(take, None, False, different=take)
    counts = [_rows(file) for file in files]
    if not counts or any(count is None for count in counts):
        return Size(take, None, False, different=take)
    rows = sum(count or 0 for count in counts)
    tokens = sum(file.stat().st_size for file in files) / BYTES_A_TOKEN
    taken = take or rows
    made = round(tokens * taken / rows) if rows else 0
    return Size(taken, made, source.spec.filter is None, different=min(taken, rows))


def _rows(file: Path) -> int | None:
    if file.suffix == ".jsonl":
        with open(file, "rb") as stream:
            return sum(1 for line in stream if line.strip())
    if file.suffix == ".csv":
        with open(file, "rb") as stream:
            return max(0, sum(1 for _ in stream) - 1)
    if file.suffix == ".json" and file.stat().st_size <= SMALL:
        try:
            rows = json.loads(file.read_text(encoding="utf-8-sig"))
        except (ValueError, RecursionError):
            return None  # the reader of the data says what is wrong with it
        return len(rows) if isinstance(rows, list) else None
    return None
