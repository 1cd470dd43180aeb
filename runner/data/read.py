"""Rows of data files as they are: JSON Lines, JSON, CSV, Parquet and Arrow, compressed with gzip or not.

Nothing is guessed about types: a row is the mapping that the file holds. Refuses files that do not parse, telling the
line.
"""

import csv
import gzip
import json
import re
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from runner.core.errors import DataError


@dataclass(frozen=True)
class Row:
    """One row. number: its place in the file, counted from 0. line: of the file, counted from 1, where lines count."""

    file: str
    number: int
    values: dict[str, Any]
    line: int | None = None

    @property
    def place(self) -> str:
        """`file:line`, or `file: row 7`."""
        return f"{self.file}:{self.line}" if self.line is not None else f"{self.file}: row {self.number}"


def rows(file: Path, told: str = "") -> Iterator[Row]:
    """The rows of a file.

    Args:
        told: the file's name for messages.

    Raises:
        DataError: it cannot be read, or does not parse.
    """
    kind = file.name.removesuffix(".gz").rpartition(".")[2]
    reader = READERS.get(kind)
    name = told or str(file)
    if file.suffix == ".gz" and kind in TABLES:
        raise DataError(f"{name}: is packed, and .{kind} is read as it is. Unpack it: gunzip {name}.")
    if reader is None:
        raise DataError(
            f"{name}: cannot read files that end in .{kind}. Endings: {', '.join(f'.{end}' for end in READERS)}."
        )
    try:
        yield from reader(file, name)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name}: is not UTF-8 text ({error.reason} at byte {error.start}). Save it as UTF-8."
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{name}: cannot be read: {getattr(error, 'strerror', None) or error}.") from None


HALF = re.compile(r"\\u[dD][89a-fA-F]")  # the escape of one half of a character


def _text(file: Path) -> TextIO:
    if file.suffix == ".gz":
        return gzip.open(file, "rt", encoding="utf-8-sig", newline="")
    return open(file, encoding="utf-8-sig", newline="")


def _jsonl(file: Path, told: str) -> Iterator[Row]:
    number = 0
    with _text(file) as stream:
        for line, text in enumerate(stream, 1):
            if not text.strip():
                continue
            try:
                values = _parsed(text.rstrip("\r\n"))  # a column is counted from the last line end
            except (ValueError, RecursionError) as error:
                raise DataError(f"{told}:{line}: is not JSON: {_json_error(error)}. One object a line.") from None
            yield Row(told, number, _mapping(values, f"{told}:{line}"), line)
            number += 1


def _json(file: Path, told: str) -> Iterator[Row]:
    with _text(file) as stream:
        try:
            held = _parsed(stream.read())
        except json.JSONDecodeError as error:
            lines = "" if error.msg != "Extra data" else " With one object a line the file must end in .jsonl."
            raise DataError(f"{told}:{error.lineno}: is not JSON: {error.msg}.{lines}") from None
        except (NotMeant, RecursionError) as error:
            raise DataError(f"{told}: is not JSON: {_json_error(error)}.") from None
    if not isinstance(held, list):
        raise DataError(f"{told}: holds {_a(held)}, not a list of rows. Form: [{{...}}, {{...}}], or .jsonl.")
    for number, values in enumerate(held):
        yield Row(told, number, _mapping(values, f"{told}: row {number}"))


def _csv(file: Path, told: str) -> Iterator[Row]:
    csv.field_size_limit(sys.maxsize)
    with _text(file) as stream:
        reader = csv.DictReader(stream, strict=True)
        try:
            twice = [name for name, count in Counter(reader.fieldnames or ()).items() if count > 1]
            if twice:
                raise DataError(f"{told}:1: has the column {twice[0]!r} twice. Name each column once.")
            for number, values in enumerate(reader):
                if None in values or None in values.values():
                    raise DataError(f"{told}:{reader.line_num}: has another number of fields than the header.")
                yield Row(told, number, dict(values), reader.line_num)
        except csv.Error as error:
            raise DataError(f"{told}:{reader.reader.line_num}: is not CSV: {error}.") from None


def _parquet(file: Path, told: str) -> Iterator[Row]:
    import pyarrow
    from pyarrow import parquet

    try:
        batches = parquet.ParquetFile(file).iter_batches(batch_size=1024)
        yield from _numbered(told, (values for batch in batches for values in batch.to_pylist()))
    except pyarrow.ArrowException as error:
        raise DataError(f"{told}: is not Parquet: {str(error).splitlines()[0]}.") from None


def _arrow(file: Path, told: str) -> Iterator[Row]:
    import pyarrow

    try:
        with pyarrow.memory_map(str(file)) as source:
            try:
                batches: Any = pyarrow.ipc.open_stream(source)
            except pyarrow.ArrowInvalid:
                opened = pyarrow.ipc.open_file(source)
                batches = (opened.get_batch(i) for i in range(opened.num_record_batches))
            yield from _numbered(told, (values for batch in batches for values in batch.to_pylist()))
    except pyarrow.ArrowException as error:
        raise DataError(f"{told}: is not Arrow: {str(error).splitlines()[0]}.") from None


def _numbered(told: str, held: Iterator[dict[str, Any]]) -> Iterator[Row]:
    for number, values in enumerate(held):
        yield Row(told, number, _without_gaps(values))


CALLS = {"tools", "functions", "tool_calls", "function_call"}  # mappings whose keys differ from row to row


def _without_gaps(held: Any, inside: bool = False) -> Any:
    """Functions and their calls without the keys that Arrow fills in with null: its records all have the same keys.

    Left in, a function would be shown, and a call learned, with the arguments of all the others.
    """
    if isinstance(held, dict):
        kept = {key: item for key, item in held.items() if not inside or item is not None}
        return {key: _without_gaps(item, inside or key in CALLS) for key, item in kept.items()}
    return [_without_gaps(item, inside) for item in held] if isinstance(held, list) else held


TABLES = ("parquet", "arrow")  # are packed inside
READERS: dict[str, Callable[[Path, str], Iterator[Row]]] = {
    "jsonl": _jsonl, "json": _json, "csv": _csv, "parquet": _parquet, "arrow": _arrow,
}  # fmt: skip


def _mapping(values: Any, place: str) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise DataError(f"{place}: is {_a(values)}, not a mapping of columns.")
    return values


class NotMeant(ValueError):
    """JSON that parses to what nobody meant: a key that an object has twice, of which one value would be lost, or an
    escape such as \\ud83d without its other half, as where a text with emojis was cut: no tokenizer takes it."""


def _parsed(text: str) -> Any:
    """The values of a JSON text, which may spell a character in two halves."""
    values = json.loads(text, object_pairs_hook=_object)
    if HALF.search(text):
        try:
            json.dumps(values, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = f"\\u{ord(error.object[error.start]):x}"
            raise NotMeant(f"{half} is half a character, without the other half") from None
    return values


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise NotMeant(f"an object has the key {twice!r} twice")
    return made


def _json_error(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "lists or objects lie too deep in each other"
    return f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)


def _a(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
