"""Rows of large files stay on the disk: each is read again when it is asked for, and only where it lies is remembered.

Lines of plain JSON Lines are found in the file itself; rows of any other kind are put into a file without a name, which
goes when nobody uses it. Small files are lists of rows, as quick as can be.
"""

import json
import os
import pickle
import tempfile
import weakref
from array import array
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from runner.core.lazy import Lazy
from runner.data.read import Row, rows

LARGE = 1 << 30  # bytes of a dataset's files, as they would be unpacked, from which on its rows stay on the disk
PACKED = 5  # how much larger unpacked files are taken to be
Keeps = Callable[[Row], bool]


def held(files: Iterable[tuple[Path, str]], keeps: Keeps) -> tuple[Sequence[Row], int, set[Any]]:
    """The rows of files.

    Args:
        files: each with its name for messages. keeps: which rows are wanted.

    Returns:
        The wanted rows; how many there are in all; the names of the wanted rows' columns.
    """
    listed = list(files)
    size = sum(
        file.stat().st_size * (1 if file.suffix in (".jsonl", ".json", ".csv") else PACKED) for file, _ in listed
    )
    made: list[Row] | OnDisk = [] if size < LARGE else OnDisk([told for _, told in listed])
    count, columns = 0, set[Any]()
    for number, (file, told) in enumerate(listed):
        for row, start, length in _placed(file, told) if isinstance(made, OnDisk) else _plain(file, told):
            count += 1
            if keeps(row):
                columns.update(row.values)
                if isinstance(made, list):
                    made.append(row)
                else:
                    made.add(number, file, row, start, length)
    return made, count, columns


def _plain(file: Path, told: str) -> Iterator[tuple[Row, int, int]]:
    for row in rows(file, told):
        yield row, 0, 0


def _placed(file: Path, told: str) -> Iterator[tuple[Row, int, int]]:
    """Rows of a file, each with its first byte and how many it has where these are a line of it; else 0 and 0."""
    if file.suffix != ".jsonl":
        yield from _plain(file, told)
        return
    with closing(_lines(file)) as lines:
        for row in rows(file, told):  # which says what is wrong with which line
            yield row, *next(lines)


def _lines(file: Path) -> Generator[tuple[int, int], None, None]:
    """Where the lines lie that are not blank, as `rows` tells both, without the mark that may begin a file."""
    start = 0
    with open(file, "rb") as stream:
        for line in (part for held in stream for part in held.splitlines(keepends=True)):
            mark = 3 if start == 0 and line.startswith(b"\xef\xbb\xbf") else 0
            if line[mark:].decode(errors="replace").strip():
                yield start + mark, len(line) - mark
            start += len(line)


class OnDisk(Lazy[Row]):
    """Rows, each read when it is asked for. told: the names of the files."""

    def __init__(self, told: Sequence[str]) -> None:
        self.told = told
        self.of_file, self.numbers, self.lines = array("i"), array("q"), array("q")
        self.starts, self.lengths = array("q"), array("q")
        self._opened: dict[int, Any] = {}
        self._copies: Any = None
        self._files = ExitStack()
        weakref.finalize(self, self._files.close)

    def add(self, number: int, file: Path, row: Row, start: int, length: int) -> None:
        """Remember a row of the file `number`. length: its bytes in the file; 0 where it must be copied."""
        if length:
            if number not in self._opened:
                self._opened[number] = self._files.enter_context(open(file, "rb"))  # noqa: SIM115
        else:
            self._copies = self._copies or self._files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
            start, length = self._copies.tell(), self._copies.write(pickle.dumps(row.values))
        self.of_file.append(number)
        self.numbers.append(row.number)
        self.lines.append(-1 if row.line is None else row.line)
        self.starts.append(start)
        self.lengths.append(length)

    def place(self, at: int) -> tuple[str, int]:
        """The file of a row and its number there, without reading it."""
        return self.told[self.of_file[at]], self.numbers[at]

    def __len__(self) -> int:
        """How many there are."""
        return len(self.numbers)

    def one(self, at: int) -> Row:
        """One row."""
        stream = self._opened.get(self.of_file[at])
        if stream is None:
            self._copies.flush()
        found = os.pread((stream or self._copies).fileno(), self.lengths[at], self.starts[at])
        line = self.lines[at]
        values = json.loads(found) if stream is not None else pickle.loads(found)
        return Row(*self.place(at), values, None if line < 0 else line)
