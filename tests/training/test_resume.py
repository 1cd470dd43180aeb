"""A training that was stopped at any moment ends with the weights, to the bit, and the figures of one that was not."""

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

from runner.training import checkpoints
from tests.training.run_small import run, start

CLOCKS = ("seconds", "data_seconds", "tokens_per_s", "trained_tokens_per_s", "memory_gib", "eval_seconds")


def figures(folder: Path) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl without what the clock tells."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in CLOCKS} for line in lines]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Folders of uninterrupted trainings, by kind, made once."""
    made: dict[str, Path] = {}

    def of(kind: str) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp("whole") / kind
            assert run(made[kind], kind) == [0]
        return made[kind]

    return of


def assert_same(one: Path, other: Path) -> None:
    assert (one / "digest.0").read_text() == (other / "digest.0").read_text()
    assert figures(one) == figures(other)
    assert best(one) == best(other)


def best(folder: Path) -> tuple[int, float]:
    """The update of the best checkpoint, and its loss on rows kept aside."""
    found = checkpoints.best(folder)
    assert found is not None
    return found.update, found.facts["eval_loss"]


@pytest.mark.parametrize(
    ("kind", "event", "update"),
    [
        ("lora", "kill", 2),  # before the first checkpoint
        ("lora", "kill", 5),
        ("lora", "kill", 12),  # before the last one
        ("lora", "kill while saving", 6),
        ("lora", "stop", 4),  # in an evaluation
        ("lora", "stop", 7),  # in an update, which is dropped
        ("lora", "stop", 12),  # when all is learned and nothing written
        ("full", "kill", 5),
        ("full", "kill while saving", 6),
        ("full", "kill beside saving", 5),  # the checkpoint of update 6 hangs, the updates after it do not
        ("full", "stop", 7),
        ("plain", "kill", 5),  # with a loader process
        ("plain", "stop", 7),
    ],
)
def test_stopped_and_resumed_is_as_never_stopped(tmp_path: Path, whole: Any, kind: str, event: str, update: int):
    assert run(tmp_path, kind, event, update) == [130 if event == "stop" else -9]
    assert not (tmp_path / "digest.0").exists()
    assert run(tmp_path, kind) == [0]
    assert_same(tmp_path, whole(kind))


@pytest.mark.parametrize("kills", [5, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_again_and_again_at_random_moments(tmp_path: Path, whole: Any, kills: int):
    reference = whole("lora")
    begin = time.monotonic()
    assert run(tmp_path / "timed", "lora") == [0]
    length = time.monotonic() - begin
    rng = random.Random(kills)
    for _ in range(kills):
        (process,) = start(tmp_path / "killed", "lora")
        process.join(rng.uniform(0.2, 1.0) * length)
        process.kill()
        process.join()
    assert run(tmp_path / "killed", "lora") == [0]
    assert_same(tmp_path / "killed", reference)


def test_killed_beside_saving_only_that_checkpoint_is_lost(tmp_path: Path):
    assert run(tmp_path, "lora", "kill beside saving", 5) == [-9]
    assert [found.update for found in checkpoints.complete(tmp_path)] == [3]
    assert (tmp_path / checkpoints.SIDE / "checkpoint-6" / "optimizer.pt").is_file()


def test_a_stopped_training_tells_where_it_is(tmp_path: Path):
    run(tmp_path, "plain", "stop", 7)
    told = (tmp_path / "error.0").read_text()
    assert told == "train: stopped after update 7 of 12. The same command goes on from there."
    assert [found.update for found in checkpoints.complete(tmp_path)] == [7, 6]


@pytest.mark.parametrize("harm", ["cut", "flip", "lose", "marker"])
def test_a_broken_checkpoint_is_passed_over_and_said(tmp_path: Path, whole: Any, harm: str):
    assert run(tmp_path, "full", "kill", 8) == [-9]
    newest = checkpoints.newest_first(tmp_path)[0]
    assert newest.name == "checkpoint-6"
    file = newest / ("complete.json" if harm == "marker" else "optimizer.pt")
    if harm == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    elif harm == "flip":
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    else:
        file.unlink()
    assert run(tmp_path, "full") == [0]
    log = (tmp_path / "log.0").read_text()
    assert f"{newest}: " in log and "Passed over." in log and "going on from checkpoint-3" in log
    assert_same(tmp_path, whole("full"))


def test_a_stop_where_a_damaged_checkpoint_was_leaves_a_whole_one(tmp_path: Path):
    """What the damaged one says of itself was believed, and nothing written."""
    run(tmp_path, "plain", "stop", 7)
    (tmp_path / "checkpoint-7" / "optimizer.pt").write_bytes(b"")
    run(tmp_path, "plain", "stop", 7)
    found, passed = checkpoints.last_complete(tmp_path)
    assert found is not None and found.update == 7 and not passed


def test_two_processes_learn_what_one_does_and_resume_exactly(tmp_path: Path, whole: Any):
    assert run(tmp_path / "two", "plain", world=2) == [0, 0]
    alone, two = figures(whole("plain")), figures(tmp_path / "two")
    for one, both in zip(alone, two, strict=True):
        for key in one:
            if key not in ("padding_share", "mfu"):
                assert both[key] == pytest.approx(one[key], rel=1e-5), (key, one, both)
    digests = [(tmp_path / "two" / f"digest.{rank}").read_text() for rank in (0, 1)]
    assert digests[0] == digests[1]
    assert run(tmp_path / "stopped", "plain", "stop", 5, world=2) == [130, 130]
    assert run(tmp_path / "stopped", "plain", world=2) == [0, 0]
    assert_same(tmp_path / "stopped", tmp_path / "two")
