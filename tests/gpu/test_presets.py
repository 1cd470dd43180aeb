"""Every preset learns what a training without one learns, on one GPU and on two; 4-bit weights under an adapter."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from tests.gpu.test_recipes_in_bfloat16 import furnished, run

pytestmark = pytest.mark.gpu
PRESETS = ["ddp", "zero1", "zero2", "zero3", "zero3_offload", "fsdp2"]
RECIPE = """\
# A short training.
# @package _global_
name: short
mix: {datasets: [rows.jsonl]}
stages: {train: {kind: sft}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder."""
    return furnished(tmp_path_factory.mktemp("presets"))


@pytest.fixture(scope="module")
def alone(folder: Path) -> list[float]:
    """What one device learns without a preset for several."""
    found = losses(folder, "alone", "train_type=full")
    assert found[-1] < found[0] - 0.3
    return found


def losses(folder: Path, name: str, *words: str) -> list[float]:
    """Of each update of a short training."""
    (folder / "recipes").mkdir(exist_ok=True)
    (folder / "recipes/short.yaml").write_text(RECIPE)
    more = ["model=model", f"output_dir={name}", "batch.rows=8", "log.every=1", "max_updates=6", "optim.lr=1e-3"]
    run(folder, "+recipe=short", "mix.variables={NAME: Ada}", *more, *words)
    lines = [json.loads(line) for line in (folder / name / "train/metrics.jsonl").read_text().splitlines()]
    made: Any = json.loads((folder / name / "train/artifact.json").read_text())
    assert made["metrics"]["updates"] == 6
    return [line["loss"] for line in lines if "loss" in line]


def learned(folder: Path, preset: str, gpus: int) -> list[float]:
    """The same under a preset."""
    if preset.startswith("zero") and importlib.util.find_spec("deepspeed") is None:
        pytest.skip("deepspeed is not installed")
    return losses(folder, f"{preset}{gpus}", "train_type=full", f"parallelism={preset}", f"parallelism.gpus={gpus}")


@pytest.mark.parametrize("preset", PRESETS)
def test_one_device_learns_the_same(folder: Path, alone: list[float], preset: str) -> None:
    assert learned(folder, preset, 1) == pytest.approx(alone, abs=0.02)


@pytest.mark.parametrize("preset", PRESETS)
def test_two_devices_learn_the_same(folder: Path, alone: list[float], two_gpus: None, preset: str) -> None:
    assert learned(folder, preset, 2) == pytest.approx(alone, abs=0.02)


def test_an_adapter_learns_over_weights_of_four_bits(folder: Path) -> None:
    pytest.importorskip("bitsandbytes")
    found = losses(folder, "qlora", "train_type=qlora", "optim.lr=1e-2")
    assert found[-1] < found[0] - 0.1
    assert (folder / "qlora/train/model/adapter_model.safetensors").is_file()
