"""Split weights are put together for the engines: what two processes learn so is what they learn with whole ones."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.rollouts.run_sampled import plugin, rows
from tests.rollouts.split import run
from tests.rollouts.test_vllm import REWARD
from tests.tiny import tiny_model

KEYS: dict[str, Any] = {
    "backend": {"name": "vllm"}, "max_updates": 4, "updates_per_rollout": 1, "num_iterations": 1,
    "correction": "token_truncate", "sleep_level": 1, "offload_model": True, "offload_optimizer": True,
}  # fmt: skip


def lines(folder: Path, preset: str, kind: str, **more: Any) -> list[dict[str, Any]]:
    """The figures of four updates."""
    keys = {**KEYS, **more, "parallelism": {"preset": preset, "gpus": 2}, "train_type": {"kind": kind}}
    out = folder / f"{preset}-{kind}"
    assert run(folder, folder / "tiny", out, keys) == [0, 0], (out / "log.0").read_text()[-3000:]
    assert not (out / "skipped_updates.jsonl").exists()
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["full", "lora"])
def test_zero3_is_as_ddp(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("deepspeed")
    tiny_model(tmp_path / "tiny")
    rows(tmp_path)
    plugin(tmp_path, REWARD)
    whole, split = lines(tmp_path, "ddp", kind), lines(tmp_path, "zero3", kind)
    for one, other in zip(whole, split, strict=True):
        assert other["sampling_mismatch"] < 1e-5
        for name in ("loss", "grad_norm", "rollout_kl"):
            assert other[name] == pytest.approx(one[name], rel=1e-3, abs=1e-6), (one["update"], name)


@pytest.mark.slow
def test_an_update_without_a_gradient_is_no_failure_of_zero3(tmp_path: Path) -> None:
    pytest.importorskip("deepspeed")
    tiny_model(tmp_path / "tiny")
    rows(tmp_path)
    plugin(tmp_path, "def letters(completions, *, place=''): return [1.0] * len(completions)\n")
    assert [line["grad_norm"] for line in lines(tmp_path, "zero3", "full", beta=0.0)] == [0.0] * 4
