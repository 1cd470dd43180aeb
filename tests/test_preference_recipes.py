"""The recipes for preferences in miniature: as they are, but for a tiny model, a few rows and fewer updates."""

import json
from pathlib import Path

import pytest

from tests.stages import run_judged
from tests.user import User, tiny_folder, user_at_work  # noqa: F401 - fixtures

SMALL = [
    "model=tiny", "model.dtype=auto", "mix.validation.rows=16", "batch.rows=8", "max_length=160", "optim.lr=1e-3",
    "epochs=2", "eval.every=5", "log.every=2",
]  # fmt: skip


@pytest.mark.parametrize(("recipe", "make"), [("qwen3_dpo", run_judged.pairs), ("qwen3_kto", run_judged.labelled)])
def test_a_recipe_in_miniature(user: User, recipe: str, make: object) -> None:
    """All of its stages, from rows to the merged model and its answers; held-out accuracy is learned."""
    assert callable(make)
    make(user.root / "rows.jsonl", 64)
    code, told = user.tell(f"recipe={recipe}", "mix.datasets=[rows.jsonl]", *SMALL, "sampling.max_new_tokens=4")
    assert code == 0, told
    folder = user.root / "outputs" / recipe
    lines = [json.loads(line) for line in (folder / "train" / "metrics.jsonl").read_text().splitlines()]
    evaluated = [line for line in lines if "eval_loss" in line]
    assert evaluated[-1]["eval_accuracy"] >= 0.9 and evaluated[-1]["eval_margin"] > evaluated[0]["eval_margin"] > 0
    made = json.loads((folder / "train" / "artifact.json").read_text())
    assert made["metrics"]["eval_accuracy"] == evaluated[-1]["eval_accuracy"]
    assert list(Path(folder / "merge" / "model").glob("*.safetensors"))
