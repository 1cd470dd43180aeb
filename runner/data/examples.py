"""The rows that a mix takes, in order, as examples: those of large datasets are read when they are asked for."""

from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from runner.core.lazy import Lazy
from runner.core.types import Example
from runner.data.on_disk import OnDisk
from runner.data.table import Table


@dataclass
class Examples(Lazy[Example]):
    """tables: of the mix, by the number of the part. marks: what each row means, as `duplicates.meaning` says it.

    known: for each part the examples that are kept in memory.
    """

    tables: list[Table]
    known: list[Mapping[int, Example]]
    parts: array = field(default_factory=lambda: array("i"))  # type: ignore[type-arg]
    rows: array = field(default_factory=lambda: array("q"))  # type: ignore[type-arg]
    marks: list[bytes] = field(default_factory=list)

    def add(self, part: int, rows: Iterable[int], marks: Mapping[int, bytes]) -> None:
        """Take rows of a part, those that have a mark."""
        for row in rows:
            if row in marks:
                self.parts.append(part)
                self.rows.append(row)
                self.marks.append(marks[row])

    def place(self, at: int) -> tuple[str, int]:
        """The file of a row and its number there."""
        rows = self.tables[self.parts[at]].rows
        return (
            rows.place(self.rows[at]) if isinstance(rows, OnDisk) else _place(self.known[self.parts[at]][self.rows[at]])
        )

    def placed(self) -> Iterator[tuple[tuple[str, int], bytes]]:
        """The place and the mark of each."""
        return ((self.place(at), mark) for at, mark in enumerate(self.marks))

    def without(self, gone: Mapping[tuple[str, int], str]) -> "Examples":
        """The same without some rows, given by their places."""
        made = Examples(self.tables, self.known)
        for at, mark in enumerate(self.marks):
            if self.place(at) not in gone:
                made.add(self.parts[at], [self.rows[at]], {self.rows[at]: mark})
        return made

    def __len__(self) -> int:
        """How many there are, copies too."""
        return len(self.marks)

    def one(self, at: int) -> Example:
        """One example."""
        part, row = self.parts[at], self.rows[at]
        found = self.known[part].get(row) or self.tables[part].example(row, part)
        assert isinstance(found, Example), "a row that meant something before"
        return found


def _place(example: Example) -> tuple[str, int]:
    return example.source, example.row
