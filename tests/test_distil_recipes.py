"""Recipes of distillation in miniature: as they are, but a tiny teacher and student, and a few rows of their own."""

import json
from pathlib import Path

import pytest

from tests.tiny import tiny_model
from tests.user import User, tiny_folder, user_at_work  # noqa: F401 - fixtures

SMALL = ["model=tiny", "model.dtype=auto", "sampling.max_new_tokens=6", "sampling.temperature=1.0"]
TRAIN = ["max_length=300", "batch.rows=4", "optim.lr=1e-3"]


@pytest.fixture
def school(user: User) -> User:
    """Models that think, problems with solutions in the shape of GSM8K's, and rows without thoughts."""
    for name in ("tiny", "teacher"):
        tiny_model(user.root / name, kind="thinker")
    problems = [{"question": f"What is {n} + 1?", "solution": f"Add one. #### {n + 1}"} for n in range(12)]
    user.write("problems.jsonl", "".join(json.dumps(row) + "\n" for row in problems))
    plain = [{"query": f"Who are you, {n}?", "response": f"I am number {n}."} for n in range(8)]
    user.write("plain.jsonl", "".join(json.dumps(row) + "\n" for row in plain))
    return user


def rows(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_distill_then_sft(school: User) -> None:
    """A teacher's thoughts and plain answers in one mix, and the student's answers before and after."""
    code, told = school.tell(
        "recipe=distill_then_sft", *SMALL, *TRAIN, "stages.distill.model=teacher", "stages.distill.truncated=keep",
        "stages.distill.prompts=[problems.jsonl]", "stages.before.prompts=[problems.jsonl]",
        "mix.datasets=['stage:distill',plain.jsonl]", "mix.validation.fraction=0.1",
    )  # fmt: skip
    assert code == 0, told
    folder = school.root / "outputs" / "distill_then_sft"
    taught = rows(folder / "distill" / "completions.jsonl")
    assert [row["id"] for row in taught] == [f"problems.jsonl:{n}" for n in range(12)]
    made = json.loads((folder / "train" / "artifact.json").read_text())["metrics"]
    assert 15 <= made["rows"] <= 18 and made["eval_loss"] > 0  # less two kept aside; random answers may be blank
    scored = [rows(folder / name / "completions.jsonl") for name in ("before", "after")]
    assert [len(held) for held in scored] == [12, 12]
    assert [row["id"] for row in scored[0]] == [row["id"] for row in scored[1]]
    assert (folder / "compare" / "artifact.json").is_file()


def test_evaluate_gsm8k(school: User) -> None:
    """Scored by their solutions, with an interval."""
    code, told = school.tell("recipe=evaluate_gsm8k", *SMALL, "stages.solve.prompts=[problems.jsonl]")
    assert code == 0, told
    made = json.loads((school.root / "outputs" / "evaluate_gsm8k" / "solve" / "artifact.json").read_text())
    assert made["metrics"]["rewards"]["accuracy"]["scored"] == 12
