"""Checkpoints are whole or absent, and only the right ones are kept."""

from pathlib import Path

import pytest

from runner.training import checkpoints


def make(folder: Path, update: int, **facts: object) -> Path:
    side = folder / ".writing"
    (side / "inner").mkdir(parents=True)
    (side / "weights.bin").write_bytes(bytes([update]) * 100)
    (side / "inner" / "more.txt").write_text("more")
    return checkpoints.finish(side, folder, {"update": update, **facts})


def names(folder: Path) -> list[str]:
    return [path.name for path in checkpoints.newest_first(folder)]


def test_a_finished_checkpoint_is_found_with_its_facts(tmp_path: Path):
    made = make(tmp_path, 3, eval_loss=0.5)
    assert checkpoints.flaw(made) is None
    found, passed = checkpoints.last_complete(tmp_path)
    assert found is not None and found.folder == made and found.facts["eval_loss"] == 0.5 and passed == {}
    assert not (tmp_path / ".writing").exists()


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda f: (f / "complete.json").unlink(), "was not written to its end"),
        (lambda f: (f / "complete.json").write_text("{"), "complete.json cannot be read"),
        (lambda f: (f / "weights.bin").unlink(), "weights.bin is missing"),
        (lambda f: (f / "weights.bin").write_bytes(b"x"), "weights.bin has 1 bytes instead of 100"),
        (lambda f: (f / "inner" / "more.txt").write_text("mare"), "inner/more.txt is damaged"),
    ],
)
def test_what_is_wrong_with_a_broken_one(tmp_path: Path, harm, told: str):
    make(tmp_path, 3)
    made = make(tmp_path, 12)
    harm(made)
    assert checkpoints.flaw(made) == told
    found, passed = checkpoints.last_complete(tmp_path)
    assert found is not None and found.update == 3
    assert passed == {made: told}


def test_weights_alone_are_nothing_to_go_on_from(tmp_path: Path):
    make(tmp_path, 3, resumable=False)
    found, passed = checkpoints.last_complete(tmp_path)
    assert found is None and passed == {tmp_path / "checkpoint-3": checkpoints.WEIGHTS_ONLY}


def test_a_damaged_one_that_was_passed_over_counts_as_none(tmp_path: Path):
    """Its marker kept it in the place of a good one."""
    made = make(tmp_path, 12, eval_loss=0.1)
    (made / "weights.bin").write_bytes(b"x")
    checkpoints.unmark(made)
    checkpoints.unmark(made)
    make(tmp_path, 14, eval_loss=0.5)
    assert checkpoints.flaw(made) == "was found damaged before"
    assert [found.update for found in checkpoints.complete(tmp_path)] == [14]
    assert checkpoints.flaw(make(tmp_path, 12)) is None


def test_what_an_earlier_start_left_of_later_updates_takes_no_place(tmp_path: Path):
    """It did, and the checkpoint just made went at once: after a kill there was nothing to go on from."""
    for update in (20, 18):
        make(tmp_path, update, resumable=False)
    for update in (3, 6, 9):
        make(tmp_path, update)
        checkpoints.rotate(tmp_path, 2, update)
    assert names(tmp_path) == ["checkpoint-20", "checkpoint-18", "checkpoint-9", "checkpoint-6"]


def test_a_broken_one_of_the_same_update_gives_way(tmp_path: Path):
    (tmp_path / "checkpoint-3").mkdir()
    (tmp_path / "checkpoint-3" / "rest").write_text("old")
    made = make(tmp_path, 3)
    assert checkpoints.flaw(made) is None and not (made / "rest").exists()


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        (1, ["checkpoint-40"]),
        (2, ["checkpoint-40", "checkpoint-20"]),
        (3, ["checkpoint-40", "checkpoint-30", "checkpoint-20"]),
        (9, ["checkpoint-40", "checkpoint-30", "checkpoint-20", "checkpoint-10"]),
    ],
)
def test_the_last_and_the_best_are_kept(tmp_path: Path, keep: int, left: list[str]):
    for update, loss in ((10, 0.9), (20, 0.2), (30, 0.4), (40, None)):
        make(tmp_path, update, eval_loss=loss)
    checkpoints.rotate(tmp_path, keep, 40)
    assert names(tmp_path) == left


def test_a_stop_while_an_old_one_goes_leaves_no_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for update in (10, 20, 30):
        make(tmp_path, update)

    def stopped(folder: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints.shutil, "rmtree", stopped)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.rotate(tmp_path, 1, 30)
    assert names(tmp_path) == ["checkpoint-30", "checkpoint-10"]
    assert (tmp_path / checkpoints.SIDE / "checkpoint-20").is_dir()


def test_the_best_is_of_those_that_were_evaluated(tmp_path: Path):
    for update, loss in ((10, 0.9), (20, 0.2), (30, 0.2), (40, None)):
        make(tmp_path, update, eval_loss=loss)
    found = checkpoints.best(tmp_path)
    assert found is not None and found.update == 30


def test_other_folders_are_no_checkpoints(tmp_path: Path):
    for name in ("checkpoint-x", "checkpoint-", "model"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoint-7").write_text("a file")
    assert names(tmp_path) == []
