"""Rows of large files, read again from the disk, are what they are in memory; encoded, dropped and drawn the same."""

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.core.errors import DataError
from runner.core.places import package_root
from runner.core.specs import Dataset, Mix, Template, Validation
from runner.data import mix, on_disk, pieces
from runner.data.on_disk import OnDisk, held
from runner.data.prepare import Reading, prepare
from runner.data.read import Row
from tests.tiny import tiny_tokenizer

ROWS = [{"query": f"question {n}é", "response": "one\u2028two" if n % 5 else "", "n": n} for n in range(23)]
TEXTS = [{name: str(value) for name, value in row.items()} for row in ROWS]


def jsonl(file: Path) -> None:
    """With the mark of its encoding, blank lines of any blanks, ends of lines of three kinds, and no last end."""
    lines = [json.dumps(row, ensure_ascii=False) for row in ROWS]
    text = "\n\n" + "\r\n".join(lines[:9]) + "\n  \n" + "\n".join(lines[9:15]) + "\n\u3000\n" + "\r".join(lines[15:])
    file.write_bytes(b"\xef\xbb\xbf" + text.encode())


def packed(file: Path) -> None:
    with gzip.open(file, "wt", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in ROWS)


def table(file: Path) -> None:
    with open(file, "w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(ROWS[0]))
        writer.writeheader()
        writer.writerows(ROWS)


def parquet(file: Path) -> None:
    import pyarrow
    from pyarrow import parquet as made

    made.write_table(pyarrow.Table.from_pylist(ROWS), file)


KINDS: dict[str, Callable[[Path], Any]] = {
    "a.jsonl": jsonl,
    "a.jsonl.gz": packed,
    "a.json": lambda file: file.write_text(json.dumps(ROWS)),
    "a.csv": table,
    "a.parquet": parquet,
}


def both(files: list[tuple[Path, str]], keeps: Callable[[Row], bool], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Read as small files and as large ones."""
    small = held(files, keeps)
    with monkeypatch.context() as patch:
        patch.setattr(on_disk, "LARGE", 0)
        return [small, held(files, keeps)]


@pytest.mark.parametrize("name", KINDS)
def test_a_row_on_the_disk_is_the_row(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of any kind of file, filtered, in any order."""
    KINDS[name](tmp_path / name)
    for keeps in (lambda row: True, lambda row: int(row.values["n"]) % 3 == 0):
        small, large = both([(tmp_path / name, name)] * 2, keeps, monkeypatch)
        assert isinstance(small[0], list) and isinstance(large[0], OnDisk)
        assert list(large[0]) == small[0] and large[1:] == small[1:]
        assert large[0][-1] == small[0][-1] and large[0][3:5] == small[0][3:5]
        assert [large[0].place(at) for at in range(len(small[0]))] == [(row.file, row.number) for row in small[0]]


def test_a_broken_line_of_a_large_file_is_told_as_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File, line, what is wrong."""
    (tmp_path / "a.jsonl").write_text('{"query": "q"}\n\n{"query": \n')
    monkeypatch.setattr(on_disk, "LARGE", 0)
    with pytest.raises(DataError, match=r"a\.jsonl:3: is not JSON"):
        held([(tmp_path / "a.jsonl", "a.jsonl")], lambda row: True)


def test_a_large_mix_is_encoded_as_a_small_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies, validation, a filter, dropped rows, duplicates."""
    for name in ("a.jsonl", "a.parquet"):
        KINDS[name](tmp_path / name)
    given = Mix(
        datasets=[f"{tmp_path}/a.jsonl#50", Dataset(dataset=f"{tmp_path}/a.parquet", filter="n < 15")],
        validation=Validation(rows=3),
        duplicates="drop",
    )
    made = []
    for size in (on_disk.LARGE, 0):
        monkeypatch.setenv("RUNNER_CACHE", str(tmp_path / str(size)))
        monkeypatch.setattr(on_disk, "LARGE", size)
        made.append(
            prepare(
                tiny_tokenizer(), given, Reading(Template(), ["default"], 512), seed=3, hub="modelscope",
                places=[package_root()], max_dropped=1.0,
            )
        )  # fmt: skip
    small, large = made
    assert list(large.train.sequences) == list(small.train.sequences) and len(small.train.sequences) > 30
    assert list(large.validation.sequences) == list(small.validation.sequences)
    assert (large.train.rows, large.dropped, large.report) == (small.train.rows, small.dropped, small.report)


def test_a_large_mix_holds_no_row_and_is_encoded_in_pieces_of_bounded_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that memory does not grow with the source."""
    jsonl(tmp_path / "a.jsonl")
    monkeypatch.setattr(on_disk, "LARGE", 0)
    monkeypatch.setattr(pieces, "LETTERS", 60)
    read = mix.load(Mix(datasets=[str(tmp_path / "a.jsonl")]), 1, "modelscope", [package_root()])
    assert read.train.known == [{}] and len(read.train) == 18
    cut = list(pieces._cut(read.train))
    assert [first for first, _ in cut] == [sum(len(some) for _, some in cut[:at]) for at in range(len(cut))]
    sizes = [[sum(len(message.content) for message in each.messages) for each in some] for _, some in cut]
    assert all(sum(some[:-1]) <= 60 for some in sizes) and 1 < len(cut) < 18
