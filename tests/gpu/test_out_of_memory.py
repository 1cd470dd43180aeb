"""The GPU's memory really runs out: the update is done anew in smaller micro-batches where an engine lets it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gpu.test_recipes_in_bfloat16 import furnished, row

pytestmark = pytest.mark.gpu
SHARE = 0.01  # of the GPU's memory that the process may take
ROWS = 8000
RECIPE = """\
# Two updates of one large micro-batch each.
# @package _global_
name: large
model: {id: model, compile: false}
mix: {datasets: [rows.jsonl], variables: {NAME: Ada}, validation: {fraction: 0.25}}
train_type: {kind: full}
batch: {rows: 6000, tokens_per_device: 1000000, checkpointing: "off"}
epochs: 2
eval: {every: 1}
log: {every: 1}
stages: {train: {kind: sft}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder with many rows."""
    made = furnished(tmp_path_factory.mktemp("large"))
    (made / "rows.jsonl").write_text("".join(json.dumps(row(number)) + "\n" for number in range(ROWS)))
    (made / "recipes").mkdir()
    (made / "recipes/large.yaml").write_text(RECIPE)
    return made


def started(folder: Path, name: str, share: float, *words: str) -> tuple[int, str]:
    """Exit code and output of a run that may take so much of the GPU."""
    limit = {"PYTORCH_CUDA_ALLOC_CONF": f"per_process_memory_fraction:{share}"} if share < 1 else {}
    done = subprocess.run(
        [sys.executable, "-m", "runner", "+recipe=large", f"output_dir={name}", *words],
        cwd=folder, env={**os.environ, **limit}, capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def losses(folder: Path, name: str, key: str) -> list[float]:
    lines = [json.loads(line) for line in (folder / name / "train/metrics.jsonl").read_text().splitlines()]
    return [line[key] for line in lines if key in line]


def test_it_goes_on_in_smaller_micro_batches(folder: Path) -> None:
    """Evaluations too."""
    code, told = started(folder, "plenty", 1.0)
    assert code == 0 and "out of memory" not in told, told
    code, told = started(folder, "tight", SHARE)
    assert code == 0 and "out of memory with micro-batches of" in told, told
    for key in ("loss", "eval_loss"):
        assert losses(folder, "tight", key) == pytest.approx(losses(folder, "plenty", key), abs=0.01)


def test_zero_says_what_to_lower(folder: Path) -> None:
    """Its engine has gathered gradients of the update by then."""
    pytest.importorskip("deepspeed")
    code, told = started(folder, "zero2", SHARE, "parallelism=zero2")
    assert code != 0
    assert "ran out of memory on device 0, with batch.tokens_per_device=1000000. Lower it, or take auto." in told
    assert "Traceback" not in told
