"""The pace is tried once, told, kept with the run and for the next one; what the user says is not tried.

The device is the CPU with a GPU's figures put in: what is tested is who decides what, not how fast anything is.
"""

import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from runner.core.errors import ConfigError, StageError
from runner.core.specs import Batch
from runner.engines.ranks import free_port
from runner.training import checkpoints, pace, train
from runner.training.settings import Settings, check_pace
from tests.training import small

GIB = 2**30


def as_gpu(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Memory that grows with the tokens of a pass; `total` GiB of it."""
    from runner.training import _trial

    told = {"total": 40.0, "tokens": 0.0, "passes": 0}
    plain = _trial.Trial._pass

    def run(self: Any, micro: Any) -> None:
        told["tokens"], told["passes"] = micro.tokens, told["passes"] + 1
        if micro.tokens / 100 > told["total"]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        plain(self, micro)

    figures: dict[str, Any] = {
        "mem_get_info": lambda: (int(told["total"] * GIB), int(told["total"] * GIB)), "memory_reserved": lambda: 0,
        "max_memory_allocated": lambda: int(told["tokens"] / 100 * GIB), "reset_peak_memory_stats": lambda: None,
        "synchronize": lambda: None, "empty_cache": lambda: None, "get_device_name": lambda: "a GPU",
    }  # fmt: skip
    for name, figure in figures.items():
        monkeypatch.setattr(torch.cuda, name, figure)
    monkeypatch.setattr(_trial.Trial, "_pass", run)
    monkeypatch.setattr(train, "_on_gpu", lambda args: True)
    return told


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, float]:
    """This machine as one with a GPU, and a cache of its own."""
    monkeypatch.setenv("RUNNER_CACHE", str(tmp_path / "cache"))
    return as_gpu(monkeypatch)


def fit(folder: Path, batch: Batch, longest: int = 1500) -> None:
    extent = pace.Extent(tokens=10_000, longest=longest, typical=30, update=3000)
    small.fit(
        folder, small.model(), small.rows(16), batch=batch, settings=Settings(lr=1e-2, batch=batch), extent=extent
    )


def test_it_is_tried_once_and_kept(gpu, tmp_path, capsys):
    fit(tmp_path / "first", Batch(rows=8))
    kept = pace.read(tmp_path / "first" / pace.FILE)
    assert kept is not None and kept.budget == 3000 and kept.checkpointing == "off" and not kept.compiled
    told = capsys.readouterr().out
    assert "trial: off, 1,500 tokens" in told and "pace: micro-batches of up to 3,000 tokens" in told
    passes = gpu["passes"]
    assert passes > 0
    fit(tmp_path / "second", Batch(rows=8))
    assert gpu["passes"] == passes, "the second run knows it from the cache"
    assert pace.read(tmp_path / "second" / pace.FILE) == kept


def test_a_trial_leaves_the_training_as_it_was(gpu, tmp_path, monkeypatch):
    def losses(folder: Path) -> list[str]:
        return [
            line for line in (folder / "metrics.jsonl").read_text().replace(",", "\n").splitlines() if '"loss"' in line
        ]

    fit(tmp_path / "tried", Batch(rows=8))
    monkeypatch.setattr(train, "_on_gpu", lambda args: False)
    fit(tmp_path / "plain", Batch(rows=8, tokens_per_device=3000))
    assert losses(tmp_path / "tried") == losses(tmp_path / "plain") != []


def test_less_memory_gives_smaller_micro_batches(gpu, tmp_path):
    fit(tmp_path, Batch(rows=8, memory_gib=25.0))
    kept = pace.read(tmp_path / pace.FILE)
    assert kept is not None and 1500 <= kept.budget <= 2400


def test_what_the_user_says_is_not_tried(gpu, tmp_path):
    fit(tmp_path, Batch(rows=8, tokens_per_device=777, checkpointing="full"))
    assert pace.read(tmp_path / pace.FILE) == pace.Pace(777, "full")
    assert gpu["passes"] == 0


def test_a_sequence_that_does_not_fit_is_one_sentence(gpu, tmp_path):
    with pytest.raises(StageError, match=r"a micro-batch of 5,000 tokens does not fit into the 39\.\d GiB.*max_length"):
        fit(tmp_path, Batch(rows=8), longest=5000)


def test_a_resumed_run_cuts_as_before(gpu, tmp_path):
    pace.write(tmp_path / pace.FILE, pace.Pace(64))
    fit(tmp_path, Batch(rows=8))
    assert pace.read(tmp_path / pace.FILE) == pace.Pace(64) and gpu["passes"] == 0


def test_a_run_that_moved_to_other_devices_is_tried_anew(gpu, tmp_path):
    fit(tmp_path, Batch(rows=8))
    marker = checkpoints.newest_first(tmp_path)[0] / checkpoints.MARKER
    told = json.loads(marker.read_text())
    marker.write_text(json.dumps({**told, "facts": {**told["facts"], "preset": "ddp", "devices": 2}}))
    pace.write(tmp_path / pace.FILE, pace.Pace(64))
    fit(tmp_path, Batch(rows=8))
    kept = pace.read(tmp_path / pace.FILE)
    assert kept is not None and kept.budget == 3000


def host(caches: Path, folder: Path, rank: int, port: int) -> None:
    """One of two hosts, with a cache, a run's folder and memory of its own; leaves its number of passes."""
    torch.set_num_threads(1)
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in told.items()})
    os.environ["RUNNER_CACHE"] = str(caches / str(rank))
    figures = as_gpu(pytest.MonkeyPatch())
    figures["total"] -= 10 * rank
    fit(folder / str(rank), Batch(rows=8))
    (folder / f"passes.{rank}").write_text(f"{figures['passes']:.0f}")


def hosts(caches: Path, folder: Path) -> tuple[list[int], set[int]]:
    """The passes that each of two hosts tried, and the budgets that they chose."""
    port, context = free_port(), multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["peft", "transformers", "runner.training._update_trainer", __name__])
    made = [context.Process(target=host, args=(caches, folder, rank, port)) for rank in (0, 1)]
    for process in made:
        process.start()
    for process in made:
        process.join(90)
        process.kill()
    assert [process.exitcode for process in made] == [0, 0]
    kept = {found.budget for rank in "01" if (found := pace.read(folder / rank / pace.FILE)) is not None}
    return [int((folder / f"passes.{rank}").read_text()) for rank in (0, 1)], kept


def test_hosts_that_remember_different_things_go_on_together(tmp_path):
    caches = tmp_path / "caches"
    passes, first = hosts(caches, tmp_path / "a")
    assert passes[0] == passes[1] > 0 and len(first) == 1
    (known,) = (caches / "0").rglob("*.json")
    assert not list((caches / "1").rglob("pace/*.json"))
    pace.write(known, pace.Pace(1234))
    assert hosts(caches, tmp_path / "b") == ([0, 0], {1234})
    (caches / "0").rename(caches / "2")
    (caches / "2").rename(caches / "1")
    passes, again = hosts(caches, tmp_path / "c")
    assert passes[0] == passes[1] > 0 and again == first


def test_a_resumed_run_with_another_bound_of_memory_is_tried_anew(gpu, tmp_path):
    """The bound was passed over without a word."""
    fit(tmp_path, Batch(rows=8))
    fit(tmp_path, Batch(rows=8, memory_gib=25.0))
    kept = pace.read(tmp_path / pace.FILE)
    assert kept is not None and kept.budget <= 2400 and kept.memory_gib == 25.0


@pytest.mark.parametrize(
    ("batch", "preset", "told"),
    [
        (Batch(memory_gib=20), "zero3", "zero3 tries none out"),
        (Batch(memory_gib=20, tokens_per_device=512, checkpointing="full"), "single", "are both given"),
    ],
)
def test_a_bound_of_memory_that_nothing_would_keep_is_refused(batch, preset, told):
    with pytest.raises(ConfigError, match=rf"^train\.batch\.memory_gib: 20 bounds .*{told}"):
        check_pace(batch, "auto", preset, "train")
    check_pace(Batch(memory_gib=20, tokens_per_device=512), "auto", "single", "train")
