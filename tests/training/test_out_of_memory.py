"""Memory runs out in the middle of an update: it is done anew in smaller pieces, nothing lost and nothing doubled."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from runner.algorithms.sft import Sft
from runner.core.errors import StageError
from runner.core.specs import Log, Optim
from runner.training import pace
from runner.training.settings import Settings
from tests.training import small

SETTINGS = Settings(lr=1e-2, optim=Optim(warmup=0.1), log=Log(every=1))


def tight(monkeypatch: pytest.MonkeyPatch, most: int, from_micro: int = 0) -> list[int]:
    """The loss runs out of memory in micro-batches of more than `most` places, once so many were done."""
    plain, seen = Sft.loss, list[int]()

    def loss(self: Sft, predictions: Any, micro: Any, totals: Any) -> Any:
        if micro.slots > most and len(seen) >= from_micro:
            raise torch.OutOfMemoryError("CUDA out of memory")
        seen.append(micro.slots)
        return plain(self, predictions, micro, totals)

    monkeypatch.setattr(Sft, "loss", loss)
    return seen


def losses(folder: Path) -> list[tuple[float, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(line["loss"], line["grad_norm"]) for line in lines if "loss" in line]


@pytest.mark.parametrize("adapter", [False, True])
def test_the_update_is_done_anew_in_smaller_micro_batches(tmp_path, monkeypatch, capsys, adapter):
    def learner() -> Any:
        return small.adapter(dropout=0.0) if adapter else small.model()

    data = small.rows(32)
    small.fit(tmp_path / "plenty", learner(), data, settings=SETTINGS)
    seen = tight(monkeypatch, most=120, from_micro=3)
    small.fit(tmp_path / "tight", learner(), data, settings=SETTINGS)
    assert max(seen[3:]) <= 120
    for plenty, little in zip(losses(tmp_path / "plenty"), losses(tmp_path / "tight"), strict=True):
        assert little == pytest.approx(plenty, rel=2e-4)
    assert "out of memory with micro-batches of" in capsys.readouterr().out
    kept = pace.read(tmp_path / "tight" / pace.FILE)
    assert kept is not None and kept.budget <= 140, "the next start begins with what fitted"


def test_a_single_sequence_that_does_not_fit_ends_with_one_sentence(tmp_path, monkeypatch):
    tight(monkeypatch, most=10)
    with pytest.raises(StageError, match=r"ran out of memory on one sequence of \d+ tokens.*Lower max_length"):
        small.fit(tmp_path, small.model(), small.rows(8), settings=SETTINGS)


def test_memory_that_runs_out_in_the_optimizers_step_is_told_and_the_next_start_cuts_smaller(tmp_path, monkeypatch):
    """It was a traceback, and ran out again with the same micro-batches."""

    def step(self: Any, *_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    with pytest.raises(StageError, match=r"memory ran out around update 1, in no micro-batch.* up to \d+ tokens"):
        small.fit(tmp_path, small.model(), small.rows(8), settings=SETTINGS)
    kept = pace.read(tmp_path / pace.FILE)
    assert kept is not None and kept.budget < 200


def test_evaluations_are_cut_as_updates_are(tmp_path, monkeypatch):
    """They kept their own size, which did not fit, whatever had been found for the updates."""
    tight(monkeypatch, most=120, from_micro=3)
    small.fit(tmp_path, small.model(), small.rows(32), kept=small.rows(16, seed=1), settings=SETTINGS)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert any("eval_loss" in line for line in lines)
