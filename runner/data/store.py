"""Encoded sequences in an Arrow file: written in pieces, read from the disk's own cache, one sequence at a time.

Labels are kept as runs of trained tokens and weights only where they are not all 1, so a file is little more than its
ids and texts. A reader opens in milliseconds whatever the size, and may be shared by processes.
"""

import itertools
from array import array
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.core.lazy import Lazy
from runner.core.types import UNTRAINED, Encoded

if TYPE_CHECKING:
    import numpy
    import pyarrow


def schema() -> "pyarrow.Schema":
    """Columns: one row a sequence; `number` is the example that it comes from, `runs` are (start, end, start, ...).

    `per_token` of a sequence is not kept: it is known later than the row.
    """
    import pyarrow as pa

    return pa.schema(
        {
            "input_ids": pa.list_(pa.int32()), "runs": pa.list_(pa.int32()), "weights": pa.list_(pa.float64()),
            "source": pa.string(), "row": pa.int64(), "turn": pa.int32(), "text": pa.large_string(),
            "number": pa.int64(), "values": pa.map_(pa.string(), pa.float64()),
        }
    )  # fmt: skip


def batch(sequences: Sequence[Encoded], numbers: Sequence[int]) -> "pyarrow.RecordBatch":
    """Sequences as Arrow columns."""
    import pyarrow as pa

    columns = {
        "source": [sequence.source for sequence in sequences],
        "row": [sequence.row for sequence in sequences],
        "turn": [sequence.turn for sequence in sequences],
        "text": [sequence.text for sequence in sequences],
        "number": list(numbers),
        "values": [list(sequence.values.items()) for sequence in sequences],
    }
    made = {
        "input_ids": _listed([sequence.input_ids for sequence in sequences], "i", pa.int32()),
        "runs": runs([sequence.labels for sequence in sequences]),
        "weights": _listed([sequence.weights for sequence in sequences], "d", pa.float64()),
    }
    arrays = [made[each.name] if each.name in made else pa.array(columns[each.name], each.type) for each in schema()]
    return pa.RecordBatch.from_arrays(arrays, schema=schema())


def _listed(lists: Sequence[Sequence[Any] | None], code: str, kind: "pyarrow.DataType") -> "pyarrow.ListArray":
    """Lists of numbers as one column; None is no list. code: of the kind of number, as `array` has it."""
    import numpy as np
    import pyarrow as pa

    values = array(code)
    for held in lists:
        values.extend(held or ())
    offsets = np.cumsum([0, *(len(held or ()) for held in lists)], dtype=np.int32)
    absent = pa.array([held is None for held in lists], pa.bool_())
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.array(values), kind), mask=absent)


def runs(labels: Sequence[Sequence[int]]) -> "pyarrow.ListArray":
    """Where trained tokens start and end in each sequence: [start, end, start, end, ...]."""
    import numpy as np
    import pyarrow as pa

    together = array("i", [UNTRAINED])
    for held in labels:
        together.extend(held)
        together.append(UNTRAINED)  # no run goes over the end of a sequence
    trained = np.array(together) != UNTRAINED
    bounds = np.flatnonzero(trained[1:] != trained[:-1])
    starts = np.cumsum([0, *(len(held) + 1 for held in labels)])
    offsets = np.searchsorted(bounds, starts)
    within = bounds - np.repeat(starts[:-1], np.diff(offsets))
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(within.astype(np.int32)))


def write(file: Path, batches: Iterator["pyarrow.RecordBatch"]) -> None:
    """Write a file of sequences."""
    import pyarrow as pa

    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, schema()) as writer:
        for made in batches:
            writer.write_batch(made)


class Stored(Lazy[Encoded]):
    """The sequences of a file."""

    def __init__(self, file: Path) -> None:
        import numpy as np
        import pyarrow as pa

        self.file = file
        reader = pa.ipc.open_file(pa.memory_map(str(file)))
        self._batches = [_Batch(reader.get_batch(i)) for i in range(reader.num_record_batches)]
        self._starts = np.cumsum([0, *(len(made.row) for made in self._batches)])

    def __reduce__(self) -> tuple[Any, ...]:
        """So that a process that is given it opens the file itself."""
        return Stored, (self.file,)

    def __len__(self) -> int:
        """How many there are."""
        return int(self._starts[-1])

    def one(self, place: int) -> Encoded:
        """One sequence."""
        at = place + len(self) if place < 0 else place
        if not 0 <= at < len(self):
            raise IndexError(place)
        number = int(self._starts.searchsorted(at, side="right")) - 1
        return self._batches[number].sequence(at - int(self._starts[number]))

    @cached_property
    def lengths(self) -> list[int]:
        """Tokens of each sequence."""
        return [length for made in self._batches for length in _differences(made.lists["input_ids"][0])]

    @cached_property
    def rows(self) -> list[int]:
        """The number of the example that each sequence comes from."""
        return [number for made in self._batches for number in made.number.to_pylist()]

    def trained(self) -> Iterator[int]:
        """Trained tokens of each sequence."""
        for made in self._batches:
            offsets, bounds = made.lists["runs"]
            for start, end in itertools.pairwise(offsets.tolist()):
                yield int(bounds[start + 1 : end : 2].sum() - bounds[start:end:2].sum())

    def suspects(self, ends: Sequence[int]) -> Iterator[Encoded]:
        """Sequences without a trained token, or with one of `ends` untrained right after a trained token."""
        start = 0
        for made in self._batches:
            yield from (self[start + at] for at in made.suspects(ends))
            start += len(made.row)


def _differences(offsets: "numpy.ndarray[Any, Any]") -> list[int]:
    return list((offsets[1:] - offsets[:-1]).tolist())


class _Batch:
    """The columns of one piece of a file, ready to be cut."""

    def __init__(self, made: "pyarrow.RecordBatch") -> None:
        self.lists = {name: self._opened(made.column(name)) for name in ("input_ids", "runs", "weights")}
        self.weighted = made.column("weights").is_valid().to_numpy(zero_copy_only=False)
        self.source, self.row, self.turn, self.text, self.number, self.values = (
            made.column(name) for name in ("source", "row", "turn", "text", "number", "values")
        )

    @staticmethod
    def _opened(column: Any) -> tuple["numpy.ndarray[Any, Any]", "numpy.ndarray[Any, Any]"]:
        return column.offsets.to_numpy(), column.values.to_numpy(zero_copy_only=False)

    def list(self, name: str, at: int) -> list[Any]:
        """The list at a place."""
        offsets, values = self.lists[name]
        return list(values[offsets[at] : offsets[at + 1]].tolist())

    def sequence(self, at: int) -> Encoded:
        """The sequence at a place."""
        ids, bounds = self.list("input_ids", at), self.list("runs", at)
        labels = [UNTRAINED] * len(ids)
        for start, end in zip(bounds[::2], bounds[1::2], strict=True):
            labels[start:end] = ids[start:end]
        return Encoded(
            input_ids=ids,
            labels=labels,
            weights=self.list("weights", at) if self.weighted[at] else None,
            source=self.source[at].as_py(),
            row=self.row[at].as_py(),
            turn=self.turn[at].as_py(),
            text=self.text[at].as_py(),
            values=dict(self.values[at].as_py()),
        )

    def suspects(self, ends: Sequence[int]) -> Sequence[int]:
        """Places of the sequences that `Stored.suspects` speaks of."""
        import numpy as np

        (starts, ids), (offsets, bounds) = self.lists["input_ids"], self.lists["runs"]
        numbers = np.repeat(np.arange(len(starts) - 1), np.diff(offsets) // 2)
        first = int(offsets[0])
        after = starts[numbers] + bounds[first + 1 : int(offsets[-1]) : 2]
        inside = after < starts[numbers + 1]
        unended = numbers[inside][np.isin(ids[after[inside]], ends)]
        return sorted({*np.flatnonzero(np.diff(offsets) == 0).tolist(), *unended.tolist()})
