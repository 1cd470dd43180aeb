"""Every preset with one device on a GPU learns what a training without one learns; 4-bit weights under an adapter."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from tests.gpu.test_recipes_in_bfloat16 import folder, run  # noqa: F401 - a fixture

pytestmark = pytest.mark.gpu
RECIPE = """\
# A short training.
# @package _global_
name: short
mix: {datasets: [rows.jsonl]}
stages: {train: {kind: sft}}
"""


def losses(folder: Path, name: str, *words: str) -> list[float]:  # noqa: F811
    """Of each update of a short training."""
    (folder / "recipes").mkdir(exist_ok=True)
    (folder / "recipes/short.yaml").write_text(RECIPE)
    more = ["model=model", f"output_dir={name}", "batch.rows=8", "log.every=1", "max_updates=6", "optim.lr=1e-3"]
    run(folder, "+recipe=short", "mix.variables={NAME: Ada}", *more, *words)
    lines = [json.loads(line) for line in (folder / name / "train/metrics.jsonl").read_text().splitlines()]
    made: Any = json.loads((folder / name / "train/artifact.json").read_text())
    assert made["metrics"]["updates"] == 6
    return [line["loss"] for line in lines if "loss" in line]


@pytest.mark.parametrize("preset", ["ddp", "zero1", "zero2", "zero3", "zero3_offload", "fsdp2"])
def test_one_device_learns_the_same(folder: Path, preset: str) -> None:  # noqa: F811
    if preset.startswith("zero") and importlib.util.find_spec("deepspeed") is None:
        pytest.skip("deepspeed is not installed")
    alone = losses(folder, "alone", "train_type=full")
    other = losses(folder, preset, "train_type=full", f"parallelism={preset}", "parallelism.gpus=1")
    assert other == pytest.approx(alone, abs=0.02) and alone[-1] < alone[0] - 0.3


def test_an_adapter_learns_over_weights_of_four_bits(folder: Path) -> None:  # noqa: F811
    pytest.importorskip("bitsandbytes")
    found = losses(folder, "qlora", "train_type=qlora", "optim.lr=1e-2")
    assert found[-1] < found[0] - 0.1
    assert (folder / "qlora/train/model/adapter_model.safetensors").is_file()
