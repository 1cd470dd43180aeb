"""What another node than the first hears of it: orders of this try alone, its end, its silence."""

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner import nodes
from runner.core.errors import DataError, Interrupted, StageError


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, seconds in {"BEAT": 0.05, "LOOK": 0.02, "GRACE": 0.2}.items():
        monkeypatch.setattr(nodes, name, seconds)
    yield


def other(run: Path, patience: float = 20.0) -> nodes.Other:
    lock = run / ".lock"
    lock.touch()
    return nodes.Other(run, patience, lock)


def soon(work) -> threading.Thread:  # type: ignore[no-untyped-def]
    thread = threading.Timer(0.2, work)
    thread.start()
    return thread


def test_a_node_begins_when_the_first_one_is_at_the_stage_and_passes_over_what_is_done(tmp_path: Path) -> None:
    with nodes.first(tmp_path, 2) as told:
        told.at("stale")
    second = other(tmp_path)

    def work() -> None:
        with nodes.first(tmp_path, 2) as told:
            told.leave("distil")
            told.at("train")
            time.sleep(0.5)

    thread = soon(work)
    assert not second.ordered("distil")
    assert second.ordered("train")
    thread.join()


def test_a_first_node_that_fails_before_its_order_ends_the_others_with_its_sentence(tmp_path: Path) -> None:
    second = other(tmp_path)

    def fails() -> None:
        with pytest.raises(DataError), nodes.first(tmp_path, 2):
            raise DataError("rows.jsonl:3: is not JSON. Mend the line.")

    thread, start = soon(fails), time.monotonic()
    with pytest.raises(StageError, match=r"^train: the first node ended: rows.jsonl:3: is not JSON. Mend the line.$"):
        second.ordered("train")
    assert time.monotonic() - start < 5
    thread.join()


@pytest.mark.parametrize("before", ["never began", "failed long ago", "failed just now"])
def test_a_first_node_that_does_not_begin_is_not_waited_for_for_ever(
    tmp_path: Path, before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "RECENT", 0.3)
    if before != "never began":
        with pytest.raises(StageError), nodes.first(tmp_path, 2):
            raise StageError("distil: failed.")
    if before == "failed long ago":
        os.utime(tmp_path / nodes.FILE, (1, 1))
    start = time.monotonic()
    with pytest.raises(StageError, match="the first node gave no sign of life for") as told:
        other(tmp_path, 1.0).ordered("train")
    assert (time.monotonic() - start < 0.9) == (before == "failed just now")
    assert ("at last it had ended: distil: failed" in str(told.value)) == (before != "never began")


def test_a_first_node_that_was_killed_falls_silent(tmp_path: Path) -> None:
    second = other(tmp_path, 0.5)
    soon(lambda: (tmp_path / nodes.FILE).write_text(json.dumps({"beat": 1, "at": "distil", "done": [], "ended": None})))
    with pytest.raises(StageError, match="no sign of life"):
        second.ordered("train")


def test_a_part_that_hangs_after_the_first_node_has_stopped_is_ended(tmp_path: Path) -> None:
    second, killed = other(tmp_path), threading.Event()

    def stops() -> None:
        with pytest.raises(Interrupted), nodes.first(tmp_path, 2) as told:
            told.at("train")
            time.sleep(0.5)
            raise Interrupted("train: stopped.")

    thread = soon(stops)
    assert second.ordered("train")
    with (
        pytest.raises(Interrupted, match="train: the first node ended: train: stopped."),
        second.watching("train", killed.set),
    ):
        assert killed.wait(10)
    thread.join()
