"""artifact.json: there and whole, or not there."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from runner.core.artifact import Artifact, read, write, write_whole


def test_what_is_written_is_read(tmp_path: Path) -> None:
    made = Artifact(
        "adapter", str(tmp_path / "best"), base="some/model", fingerprint="ab12", metrics={"loss": 0.5, "名": "é"}
    )
    write(tmp_path, made)
    assert read(tmp_path) == made
    assert os.listdir(tmp_path) == ["artifact.json"]


def test_a_folder_that_was_moved_or_copied_finds_its_own(tmp_path: Path) -> None:
    """A copy spoke of the original, and a run that was moved of nothing."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    for path, found in ((old / "rows.jsonl", new / "rows.jsonl"), (old, new), (tmp_path / "far.jsonl",) * 2):
        write(old, Artifact("completions", str(path)))
        shutil.copytree(old, new, dirs_exist_ok=True)
        assert read(old) == Artifact("completions", str(path))
        assert read(new) == Artifact("completions", str(found))


def test_a_folder_without_one_is_not_complete(tmp_path: Path) -> None:
    assert read(tmp_path) is None
    assert read(tmp_path / "never") is None


def test_a_write_that_fails_leaves_the_old_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine stops before the new text has its name: a reader sees the old one."""
    file = tmp_path / "note"
    write_whole(file, "old")

    def stop(*_: object) -> None:
        raise OSError("stopped")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", stop)
        with pytest.raises(OSError, match="stopped"):
            write_whole(file, "new")
    assert file.read_text() == "old"
    write_whole(file, "new")
    assert file.read_text() == "new"


def test_a_disk_that_is_full_in_the_middle_of_a_file_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError) as error:
        write_whole(tmp_path / "plan.json", "text")
    assert error.value.filename == str(tmp_path / "plan.json") and not list(tmp_path.iterdir())
