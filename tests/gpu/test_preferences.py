"""Preferences on a GPU: packed, in bfloat16 where that is the way; held-out answers are told apart."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from runner.core import registry
from runner.core.job import Job
from tests.stages import run_judged
from tests.tiny import tiny_model

pytestmark = pytest.mark.gpu
START = {"dpo": 0.6931, "kto": 0.5}  # the loss while nothing has been gained yet


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny chat model."""
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def trained(kind: str, base: Path, folder: Path, **keys: Any) -> tuple[Any, list[dict[str, Any]]]:
    """A short training, and the lines of its figures."""
    folder.mkdir(parents=True)
    rows = (run_judged.labelled if kind == "kto" else run_judged.pairs)(folder / "rows.jsonl", 64)
    mix = {"datasets": ["rows.jsonl"], "validation": {"rows": 16}}
    given = {"batch": {"rows": 8}, "optim": {"lr": 2e-3}, "log": {"every": 1}, "epochs": 5, "mix": mix, **keys}
    with contextlib.chdir(folder):  # which rows are kept aside depends on the name of their file as it is said
        made = run_judged.stage(kind, base, rows, **given).run(Job("train", folder, folder))
    return made, [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("kind", ["dpo", "kto", "simpo", "orpo", "reward_model"])
@pytest.mark.parametrize("weights", ["lora", "full"])
def test_held_out_answers_are_told_apart(base: Path, tmp_path: Path, kind: str, weights: str) -> None:
    """The first loss shows that the model is its own reference, packed otherwise."""
    made, lines = trained(kind, base, tmp_path / "out", train_type={"kind": weights})
    assert made.metrics["eval_accuracy"] >= 0.9, lines
    if kind in START:
        assert lines[0]["loss"] == pytest.approx(START[kind], abs=0.02)
    assert all(line["padding_share"] == 0 for line in lines if "loss" in line)


def test_a_reward_model_gives_numbers_on_the_gpu(base: Path, tmp_path: Path) -> None:
    made, _ = trained("reward_model", base, tmp_path / "out", train_type={"kind": "full"})
    held = [json.loads(line) for line in (tmp_path / "out" / "rows.jsonl").read_text().splitlines()]
    asked = [[{"role": "user", "content": row["prompt"]}] for row in held]
    score = registry.load("rewards", "reward_model")
    good, bad = (score([row[name] for row in held], messages=asked, model=made.path) for name in ("chosen", "rejected"))
    assert sum(a > b for a, b in zip(good, bad, strict=True)) >= 56
