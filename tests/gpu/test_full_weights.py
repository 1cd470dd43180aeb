"""All weights learning on a GPU: held in float32, products in bfloat16, packed; written in bfloat16."""

from pathlib import Path

import pytest
import torch

from runner.core.job import Job
from runner.core.schema import build
from runner.stages.sft import Sft
from tests.gpu.test_recipes_in_bfloat16 import folder  # noqa: F401 - a fixture

pytestmark = pytest.mark.gpu


def test_small_steps_are_not_lost_in_rounding(folder: Path, tmp_path: Path) -> None:  # noqa: F811
    """At a rate of 1e-5 a bfloat16 weight of 0.02 would hardly ever move."""
    from safetensors.torch import load_file

    keys = {
        "model": {"id": str(folder / "model")},
        "mix": {"datasets": [str(folder / "rows.jsonl")], "variables": {"NAME": "Ada"}},
        "train_type": {"kind": "full"},
        "optim": {"lr": 1e-5, "schedule": "constant", "weight_decay": 0.0},
        "epochs": 5,
        "save": {"every": 20},
    }
    out = tmp_path / "out"
    out.mkdir()
    made = build(Sft, keys, "train").run(Job("train", out, out))
    written = load_file(Path(made.path) / "model.safetensors")
    assert {weight.dtype for weight in written.values()} == {torch.bfloat16}
    before = load_file(folder / "model" / "model.safetensors")
    after = load_file(out / "checkpoint-20" / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    assert after[name].dtype == torch.float32
    moved = (after[name] != before[name]).float().mean()
    kept = (after[name].bfloat16() != before[name].bfloat16()).float().mean()
    assert moved > 0.99 > kept
