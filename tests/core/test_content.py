"""Digests of files and folders: by content, remembered by size and time."""

import os
from pathlib import Path

import pytest

from runner.core import content
from runner.core.content import file_digest


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Notes of this test alone."""
    monkeypatch.setenv("RUNNER_CACHE", str(tmp_path / "cache"))


def settle(file: Path) -> None:
    """Let a file look as if it had last changed a minute ago."""
    os.utime(file, ns=(0, file.stat().st_mtime_ns - 60_000_000_000))


def test_only_the_content_counts(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("same")
    two.write_text("same")
    assert file_digest(one) == file_digest(two)
    two.write_text("else")
    assert file_digest(one) != file_digest(two)


def test_a_file_that_rests_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "big"
    file.write_text("content")
    settle(file)
    first = file_digest(file)

    def read_again(*_: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(content.hashlib, "file_digest", read_again)
    assert file_digest(file) == first


def test_a_file_that_just_changed_is_read_again(tmp_path: Path) -> None:
    """Two writes within a tick of the file system's clock, of the same size."""
    file = tmp_path / "file"
    file.write_text("one")
    first, times = file_digest(file), (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    file.write_text("two")
    os.utime(file, ns=times)
    assert file_digest(file) != first


def test_a_damaged_note_is_made_anew(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("content")
    settle(file)
    first = file_digest(file)
    for note in (tmp_path / "cache").rglob("*.json"):
        note.write_text("{")
    assert file_digest(file) == first
