"""What is shown while a stage works."""

import io

import pytest
from rich.table import Table

from runner import terminal
from runner.terminal import Terminal, screen


def shown(states: list[tuple[float, int, str]], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The plain lines of progress: (seconds, done of 1000, what)."""
    out = io.StringIO()
    owner = Terminal(screen(out))
    for now, done, what in states:
        monkeypatch.setattr(terminal.time, "monotonic", lambda now=now: 100.0 + now)
        owner.progress({"done": done, "total": 1000, "what": what, "shown": {}})
    return [line.strip() for line in out.getvalue().splitlines()]


def test_the_time_left_counts_what_this_run_did(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a resume all that was done before seemed to be done in no time."""
    resumed = shown([(0, 901, "updates"), (20, 911, "updates"), (1000, 1000, "updates")], monkeypatch)
    assert resumed == ["updates 901/1000", "updates 911/1000    about 178 s left", "updates 1000/1000"]
    fresh = shown([(0, 1, "updates"), (5, 3, "updates"), (20, 11, "updates")], monkeypatch)
    assert fresh == ["updates 1/1000", "updates 11/1000    about 1978 s left"]


def test_each_thing_that_is_counted_has_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(
        [(0, 1, "reference"), (50, 501, "reference"), (100, 601, "updates"), (150, 611, "updates")], monkeypatch
    )
    assert lines[1:] == [
        "reference 501/1000    about 50 s left", "updates 601/1000", "updates 611/1000    about 1945 s left"
    ]  # fmt: skip


def test_a_table_in_a_pipe_ends_no_line_with_blanks() -> None:
    """The reason of one stage made all other lines of a plan as long as it, blanks to the end."""
    table = Table(box=None, pad_edge=False)
    table.add_column("stage")
    table.add_column("why", overflow="fold")
    table.add_row("train", "not yet run")
    table.add_row("merge", "changed " * 60)
    out = io.StringIO()
    terminal.show(screen(out), table)
    lines = out.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == ["stage", "train", "merge"]
    assert all(line == line.rstrip() for line in lines)
