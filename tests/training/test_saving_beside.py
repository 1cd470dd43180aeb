"""The training goes on while a checkpoint goes to the disk, and the checkpoint is that of its own update."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from runner.core.errors import StageError
from runner.core.job import Job
from runner.core.specs import Batch, Optim, Save
from runner.training import _save_checkpoint, _snapshot, checkpoints
from runner.training.settings import Settings
from tests.training import small

FILES = {"full": "model.safetensors", "half": "model.safetensors", "lora": "adapter_model.safetensors"}


class Tell(small.Silent):
    """Sets `reached` once so many updates are done."""

    def __init__(self, at: int) -> None:
        self.at, self.reached, self.done = at, threading.Event(), 0

    def update(self, done: int, total: int, what: str = "", **shown: Any) -> None:
        self.done = done
        if done >= self.at:
            self.reached.set()


def learner(kind: str) -> Any:
    made = small.adapter() if kind == "lora" else small.model()
    if kind == "half":
        made.model.layers[0].requires_grad_(False)
    return made


def fit(folder: Path, kind: str, told: Tell, every: int = 3) -> Any:
    """Eight updates."""
    settings = Settings(lr=1e-2, optim=Optim(warmup=0.1), save=Save(every=every, keep=9))
    job = Job(name="train", folder=folder, run=folder, progress=told)
    return small.fit(
        folder, learner(kind), small.rows(64), batch=Batch(rows=8), budget=80, settings=settings, job=job,
    )  # fmt: skip


def held_back(monkeypatch: pytest.MonkeyPatch, name: str, until: threading.Event) -> list[bool]:
    """Let the first call of a function wait; whether what it waited for came."""
    came: list[bool] = []
    real: Callable[..., Any] = getattr(torch if name == "save" else checkpoints, name)

    def later(thing: Any, file: Any, *more: Any, **keys: Any) -> Any:
        if not came and (name != "save" or "optimizer.pt" in str(file)):
            came.append(until.wait(20))
        return real(thing, file, *more, **keys)

    monkeypatch.setattr(torch if name == "save" else checkpoints, name, later)
    return came


def assert_same_state(one: Path, other: Path, kind: str) -> None:
    first, second = load_file(one / FILES[kind]), load_file(other / FILES[kind])
    assert set(first) == set(second) and all(bool((first[name] == second[name]).all()) for name in first)
    moments = [torch.load(folder / "optimizer.pt")["state"] for folder in (one, other)]
    assert set(moments[0]) == set(moments[1]) and moments[0]
    for number, parts in moments[0].items():
        assert all(bool((value == moments[1][number][name]).all()) for name, value in parts.items())


@pytest.mark.parametrize("kind", ["full", "lora", "half"])
def test_updates_go_on_while_the_disk_is_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str):
    """The optimizer's file is begun two updates late, and holds what was when the checkpoint was asked for."""
    fit(tmp_path / "fast", kind, Tell(99))
    told = Tell(5)
    came = held_back(monkeypatch, "save", told.reached)
    fit(tmp_path / "slow", kind, told)
    assert came == [True]
    for update in (3, 6, 8):
        name = f"checkpoint-{update}"
        assert checkpoints.flaw(tmp_path / "slow" / name) is None
        assert_same_state(tmp_path / "fast" / name, tmp_path / "slow" / name, kind)


def test_one_checkpoint_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The second waits for the first, and the training with it: never two copies in memory."""
    told, begun = Tell(99), []
    real = checkpoints.finish

    def slow(side: Path, folder: Path, facts: Any) -> Path:
        begun.append((facts["update"], told.done))
        time.sleep(0.3)
        return real(side, folder, facts)

    monkeypatch.setattr(checkpoints, "finish", slow)
    fit(tmp_path, "lora", told, every=1)
    assert [update for update, _ in begun] == list(range(1, 9))
    assert all(done - update <= 1 for update, done in begun), begun
    assert [found.update for found in checkpoints.complete(tmp_path)] == list(range(8, 0, -1))


@pytest.mark.parametrize(("update", "left", "most"), [(3, [], 6), (8, [6, 3], 8)])
def test_a_full_disk_is_told_at_an_update_or_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, update: int, left: list[int], most: int
):
    real, told = checkpoints.finish, Tell(99)

    def full(side: Path, folder: Path, facts: Any) -> Path:
        if facts["update"] == update:
            raise OSError(28, "No space left on device")
        return real(side, folder, facts)

    monkeypatch.setattr(checkpoints, "finish", full)
    with pytest.raises(StageError, match=rf"checkpoint {update} cannot be written.*No space left.*make room"):
        fit(tmp_path, "full", told)
    assert told.done <= most and [found.update for found in checkpoints.complete(tmp_path)] == left
    assert not (tmp_path / checkpoints.SIDE).exists() and not (tmp_path / "model").exists()
    assert not [thread for thread in threading.enumerate() if thread.name == "checkpoint"]


def test_without_room_for_a_copy_the_training_waits_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    fit(tmp_path / "copied", "full", Tell(99))
    assert "no room in memory" not in capfd.readouterr().out
    monkeypatch.setattr(_snapshot, "ROOM", 0.0)
    fit(tmp_path / "waited", "full", Tell(99))
    assert capfd.readouterr().out.count("no room in memory for a copy of weights and optimizer") == 1
    assert_same_state(tmp_path / "copied" / "checkpoint-6", tmp_path / "waited" / "checkpoint-6", "full")


def test_a_copy_shares_memory_where_the_original_does_and_nothing_with_it():
    shared = torch.arange(6.0)
    tree = {"tied": [shared, shared.view(6)], "part": shared[2:4], "number": 3, "step": torch.tensor(1.0)}
    copier = _snapshot.Copier()
    made = copier.copy(tree)
    copier.settle()
    shared += 1
    tree["step"] += 1
    assert made["tied"][0] is made["tied"][1] and made["tied"][0].tolist() == [0, 1, 2, 3, 4, 5]
    assert (made["part"].tolist(), made["number"], made["step"].item()) == ([2, 3], 3, 1)


def test_only_what_learns_is_copied():
    adapted = small.adapter()
    names = set(_snapshot.changing(adapted, adapted.state_dict()))
    assert names and all("lora_" in name for name in names)


@pytest.mark.parametrize(("limit", "fits"), [("max", True), (str(40 + 2**20), True), (str(40 + 2**18), False)])
def test_the_limit_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, fits: bool):
    (tmp_path / "memory.max").write_text(limit + "\n")
    (tmp_path / "memory.current").write_text("100\n")
    (tmp_path / "memory.stat").write_text("anon 40\ninactive_file 60\n")
    monkeypatch.setattr(_snapshot, "CONTAINER", tmp_path)
    assert _snapshot.fits({"weights": torch.zeros(2**17)}) is fits


@pytest.mark.parametrize("numbers", [10, 100_000])
def test_a_disk_that_fills_up_in_the_last_bytes_of_a_file_is_known(numbers: int) -> None:
    """PyTorch says it in other words where the file is closed: that was a traceback."""
    with pytest.raises(RuntimeError) as told:
        torch.save({"state": torch.zeros(numbers)}, "/dev/full")
    assert _save_checkpoint._of_disk(told.value)


def test_a_disk_that_refuses_the_tokenizer_is_known() -> None:
    """The library that writes it has no error of its own for that."""
    assert _save_checkpoint._of_disk(Exception("File too large (os error 27)"))
    assert not _save_checkpoint._of_disk(Exception("weights of another shape"))
