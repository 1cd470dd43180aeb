"""The profile of an update: its kinds add up to its time, and the training is the same with and without it."""

import json
import time
from pathlib import Path

import pytest
import torch.profiler

from runner.core.specs import Log
from runner.training._profile import Profile, by_kind
from runner.training.settings import Settings
from tests.training import small


def test_kinds_are_told_from_names() -> None:
    events = [("nvjet_tst_128x256_64x4_bz", 5.0), ("flash_fwd_kernel", 2.0), ("ncclDevKernel_AllGather", 1.0)]
    events += [("vectorized_elementwise_kernel", 0.5), ("aten::addmm", 1.5), ("Memcpy HtoD", 0.25)]
    spent = by_kind(events, whole=12.0)
    assert (spent["matrix products"], spent["attention"], spent["exchange"], spent["copies"]) == (6.5, 2.0, 1.0, 0.2)
    assert spent["elementwise and norms"] == 0.5 and spent["gaps"] == pytest.approx(1.75, abs=0.06)


def test_one_update_is_profiled(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    losses = []
    for name, profile in (("plain", None), ("profiled", 2)):
        settings = Settings(lr=1e-2, log=Log(every=1, profile=profile))
        small.fit(tmp_path / name, small.model(), small.rows(24), settings=settings)
        told = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        losses.append([line["loss"] for line in told])
    assert losses[0] == losses[1]
    made = json.loads((tmp_path / "profiled/profile.json").read_text())
    spent = made["milliseconds"]
    assert made["update"] == 2 and made["tokens"] == told[1]["tokens"]
    assert min(spent["matrix products"], spent["optimizer"], spent["gaps"]) > 0
    assert "update 2, " in capfd.readouterr().out and not (tmp_path / "plain/profile.json").exists()


def test_the_start_of_the_profiler_is_no_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = torch.profiler.profile.start

    def slow(self: torch.profiler.profile) -> None:
        time.sleep(0.5)
        start(self)

    monkeypatch.setattr(torch.profiler.profile, "start", slow)
    made = Profile(1)
    made.begin(1)
    made.end(tmp_path, tokens=0)
    assert sum(json.loads((tmp_path / "profile.json").read_text())["milliseconds"].values()) < 400
