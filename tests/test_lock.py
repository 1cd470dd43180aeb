"""One run at a time in a folder, where the file system can tell."""

import errno
import fcntl
from pathlib import Path

import pytest

from runner.core.errors import PlanError
from runner.lock import locked


def test_a_second_run_is_refused_and_told_of_the_first(tmp_path: Path) -> None:
    with (
        locked(tmp_path),
        pytest.raises(PlanError, match=r"another run works here \(process \d+ since .*\)"),
        locked(tmp_path),
    ):
        pass
    with locked(tmp_path):
        pass


def test_a_file_system_without_locks_is_told_and_no_hindrance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As some network drives are: it was a traceback."""

    def none(handle: int, wanted: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with locked(tmp_path) as handle:
        assert handle
    told = "has no locks (No locks available), so a second run here would not be refused"
    assert capsys.readouterr().out == f"{tmp_path}: {told}\n"
