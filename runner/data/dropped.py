"""Rows that are not trained on, each with its reason: counted, written down, refused when there are too many."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from runner.core.artifact import write_whole
from runner.core.errors import DataError

FILE = "dropped.jsonl"
COPY, LEAK = "the same as an earlier row", "the same as a row kept aside for validation"  # taken out on request


@dataclass(frozen=True)
class Dropped:
    """A row that is left out. reason: the same words for all rows of one kind; detail: what is particular to this."""

    source: str
    row: int
    reason: str
    detail: str = ""

    def sentence(self) -> str:
        """`file: row 7: reason (detail)`, rows counted from 0."""
        return f"{self.source}: row {self.row}: {self.reason}{f' ({self.detail})' if self.detail else ''}"


def by_reason(dropped: Iterable[Dropped]) -> dict[str, int]:
    """How many rows were dropped for each reason, the commonest first."""
    return dict(Counter(row.reason for row in dropped).most_common())


def write(folder: Path, dropped: Sequence[Dropped]) -> Path | None:
    """Write `dropped.jsonl`, one object a row; no file when nothing was dropped."""
    file = folder / FILE
    if not dropped:
        file.unlink(missing_ok=True)
        return None
    write_whole(file, "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in dropped))
    return file


def read(file: Path) -> list[Dropped]:
    """The rows of a file that `write` made; none where there is no file."""
    lines = file.read_text(encoding="utf-8").split("\n")[:-1] if file.is_file() else []  # texts may hold other breaks
    return [Dropped(**json.loads(line)) for line in lines]


def refuse_many(dropped: Sequence[Dropped], total: int, allowed: float) -> None:
    """Stop when more rows are lost than the recipe allows; those that it asked to take out are not lost.

    Args:
        total: rows before dropping. allowed: share, `data.max_dropped`.

    Raises:
        DataError: too many were dropped, or none is left; with the commonest reason and one row as an example.
    """
    lost = [row for row in dropped if row.reason not in (COPY, LEAK)]
    total -= len(dropped) - len(lost)
    dropped = lost
    if not dropped or (len(dropped) / total <= allowed and len(dropped) < total):
        return
    reasons = by_reason(dropped)
    worst = next(iter(reasons))
    example = next(row for row in dropped if row.reason == worst)
    if len(dropped) >= total:
        raise DataError(f"{example.sentence()}. None of the {total} rows can be trained on.")
    others = f", and for {len(reasons) - 1} other reasons" if len(reasons) > 1 else ""
    enough = -(-100 * len(dropped) // total) / 100
    raise DataError(
        f"{example.source}: {len(dropped)} of {total} rows cannot be trained on: {worst}{others}; for example "
        f"{example.sentence()}. Mend the rows, or allow so many: data.max_dropped={enough:g}."
    )
