"""Rows that are left out, written down and read again."""

from pathlib import Path

from runner.data.dropped import Dropped, read, write


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """Whatever a detail holds: Unicode has line breaks of its own."""
    lost = [Dropped("rows.jsonl", 3, "no answer", "before\u2028after\x85and\nmore"), Dropped("rows.jsonl", 4, "empty")]
    file = write(tmp_path, lost)
    assert file is not None and read(file) == lost
    assert write(tmp_path, []) is None and not file.exists() and read(file) == []
