"""Files of every kind give the same rows; broken ones are told with file and line."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from runner.core.errors import DataError
from runner.data.read import rows

ROWS = [{"query": "a", "response": "b\nc"}, {"query": "你好 🎉", "response": "NA"}, {"query": "", "response": '"q"'}]


def written(folder: Path, ending: str) -> Path:
    """The three rows in a file of that ending."""
    file = folder / f"rows.{ending}"
    if ending.endswith(".gz"):
        file.write_bytes(gzip.compress(written(folder, ending.removesuffix(".gz")).read_bytes()))
    elif ending == "jsonl":
        file.write_text("\n\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS), encoding="utf-8")
    elif ending == "json":
        file.write_text("\ufeff" + json.dumps(ROWS), encoding="utf-8")
    elif ending == "csv":
        with open(file, "w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, ["query", "response"])
            writer.writeheader()
            writer.writerows(ROWS)
    else:
        import pyarrow
        from pyarrow import parquet

        table = pyarrow.Table.from_pylist(ROWS)
        if ending == "parquet":
            parquet.write_table(table, file)
        else:
            make = pyarrow.ipc.new_stream if ending == "arrow" else pyarrow.ipc.new_file
            file = folder / "rows.arrow"
            with make(str(file), table.schema) as writer:
                writer.write_table(table)
    return file


@pytest.mark.parametrize(
    "ending", ["jsonl", "json", "csv", "parquet", "arrow", "arrow-file", "jsonl.gz", "json.gz", "csv.gz"]
)
def test_every_kind_of_file_gives_its_rows(ending: str, tmp_path: Path) -> None:
    """As they are: nothing becomes a number or disappears."""
    found = list(rows(written(tmp_path, ending)))
    assert [row.values for row in found] == ROWS
    assert [row.number for row in found] == [0, 1, 2]


def test_a_line_is_told_where_lines_count(tmp_path: Path) -> None:
    """Blank lines count for the line and not for the row."""
    assert [row.line for row in rows(written(tmp_path, "jsonl"))] == [1, 3, 5]
    assert next(rows(written(tmp_path, "json"))).place.endswith("rows.json: row 0")


BROKEN = {
    "half a line": ("a.jsonl", b'{"a": 1}\n{"a": \n', "a.jsonl:2: is not JSON: Expecting value at column 7. One"),
    "a list in a line": ("a.jsonl", b"[1]\n", "a.jsonl:1: is a list, not a mapping"),
    "lines in .json": ("a.json", b'{"a": 1}\n{"a": 2}\n', "a.json:2: is not JSON: Extra data. With one object a line"),
    "half a character": (
        "a.jsonl",
        b'{"a": "\\ud83d\\ude00"}\n{"a": "cut \\ud83d"}\n',
        "a.jsonl:2: is not JSON: \\ud83d is half a character, without the other half.",
    ),
    "half a character in a list": (
        "a.json",
        b'[{"a": ["\\uDE00"]}]',
        "a.json: is not JSON: \\ude00 is half",
    ),
    "brackets without end": (
        "a.jsonl",
        b"[" * 100_000,
        "a.jsonl:1: is not JSON: lists or objects lie too deep",
    ),
    "a key twice": (
        "a.jsonl",
        b'{"a": 1}\n{"a": 1, "b": 2, "a": 3}\n',
        "a.jsonl:2: is not JSON: an object has the key 'a' twice",
    ),
    "a key twice in a list": (
        "a.json",
        b'[{"m": [{"r": 1, "r": 1}]}]',
        "a.json: is not JSON: an object has the key 'r' twice",
    ),
    "a column twice": ("a.csv", b"q,r,r\na,b,c\n", "a.csv:1: has the column 'r' twice. Name each column once."),
    "half a list": ("a.json", b'[{"a": 1},\n', "a.json:2: is not JSON"),
    "an object": ("a.json", b'{"a": 1}', "a.json: holds an object, not a list of rows"),
    "a list of texts": ("a.json", b'["a"]', "a.json: row 0: is a text, not a mapping"),
    "latin 1": ("a.jsonl", '{"a": "é"}'.encode("latin-1"), "a.jsonl: is not UTF-8 text"),
    "too many fields": ("a.csv", b"q,r\na,b,c\n", "a.csv:2: has another number of fields"),
    "too few fields": ("a.csv", b"q,r\na\n", "a.csv:2: has another number of fields"),
    "an open quote": ("a.csv", b'q,r\n"a,b\n', "a.csv:2: is not CSV"),
    "no parquet": ("a.parquet", b"nothing like it", "a.parquet: is not Parquet"),
    "no arrow": ("a.arrow", b"nothing like it", "a.arrow: is not Arrow"),
    "damaged gzip": ("a.jsonl.gz", gzip.compress(b"x" * 5000)[:20] + b"\xff" * 40, "a.jsonl.gz: cannot be read"),
    "packed Parquet": ("a.parquet.gz", b"any", "a.parquet.gz: is packed, and .parquet is read as it is. Unpack it"),
    "no gzip": ("a.jsonl.gz", b"nothing like it", "a.jsonl.gz: cannot be read"),
    "another ending": ("a.txt", b"a", "a.txt: cannot read files that end in .txt"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_told_with_its_place(case: str, tmp_path: Path) -> None:
    """One sentence, the line where there are lines."""
    name, content, sentence = BROKEN[case]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as told:
        list(rows(tmp_path / name))
    assert sentence in str(told.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """The system's own words."""
    with pytest.raises(DataError, match="cannot be read: No such file"):
        list(rows(tmp_path / "gone.jsonl"))


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_functions_of_a_table_keep_their_own_arguments_alone(ending: str, tmp_path: Path) -> None:
    """Arrow gives all records the same keys: each call had the arguments of every other one, with null."""
    import pyarrow
    from pyarrow import parquet

    def row(name: str, **given: Any) -> dict[str, Any]:
        call = {"function": {"name": name, "arguments": given}}
        tool = {"function": {"name": name, "parameters": {"properties": {key: {"type": "string"} for key in given}}}}
        said = [{"role": "assistant", "content": None, "tool_calls": [call]}]
        return {"messages": said, "tools": [tool], "answer": {name: "a"}}

    written = [row("f", at="x"), row("g", city="y", list=["z"])]
    table = pyarrow.Table.from_pylist(written)
    file = tmp_path / f"rows.{ending}"
    if ending == "parquet":
        parquet.write_table(table, file)
    else:
        with pyarrow.ipc.new_stream(str(file), table.schema) as writer:
            writer.write_table(table)
    found = [held.values for held in rows(file)]
    for key in ("messages", "tools"):
        assert [held[key] for held in found] == [held[key] for held in written]
    assert [held["answer"] for held in found] == [{"f": "a", "g": None}, {"f": None, "g": "a"}]  # as it is
