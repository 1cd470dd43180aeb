"""The gkd stage: the student comes nearer to its teacher, on its own answers and on the data's."""

import json
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from runner.core.errors import DataError, ModelError
from runner.core.job import Job
from runner.core.places import package_root
from runner.core.schema import build
from runner.stages.gkd import Gkd
from tests.tiny import tiny_model, tiny_tokenizer
from tests.training.small import Silent
from tests.user import HEAD, User, tiny_folder, user_at_work  # noqa: F401 - fixtures


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student, and a teacher of the same family with other weights."""
    folder = tmp_path_factory.mktemp("models")
    tiny_model(folder / "student")
    tiny_model(folder / "teacher", family="qwen3", seed=7)
    return folder


TAUGHT = f"""{HEAD}name: taught
mix: {{datasets: [rows.jsonl]}}
max_length: 100
train_type: {{kind: full}}
optim: {{lr: 3e-3, schedule: constant}}
log: {{every: 1}}
stages:
  teach: {{kind: sft, batch: {{rows: 20}}, max_updates: 4, train_type: {{kind: full}}, optim: {{lr: 1e-2}}}}
  learn: {{kind: gkd, model: tiny, teacher: "stage:teach", lmbda: 0.0, prompts_per_update: 20, max_updates: 6}}
"""


def stage(folder: Path, models: Path, answered: bool = True, **keys: Any) -> Gkd:
    """Eight questions, with answers where that is said."""
    talks = []
    for number in range(8):
        said = [{"role": "assistant", "content": f"It is {number}."}] if answered else []
        talks.append({"messages": [{"role": "user", "content": f"What is {number}?"}, *said]})
    (folder / "rows.jsonl").write_text("".join(json.dumps(talk) + "\n" for talk in talks))
    given = {
        "model": {"id": str(models / "student")}, "teacher": {"id": str(models / "teacher")},
        "mix": {"datasets": [str(folder / "rows.jsonl")]}, "train_type": {"kind": "full"}, "max_updates": 25,
        "optim": {"lr": 3e-3, "schedule": "constant"}, "sampling": {"max_new_tokens": 8}, "log": {"every": 1},
        "prompts_per_update": 8,
    }  # fmt: skip
    return build(Gkd, {**given, **keys}, "stages.train")


def done(one: Gkd, folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The lines of metrics.jsonl and the answers."""
    out = folder / "out"
    out.mkdir()
    one.check([folder], "stages.train")
    one.run(Job("train", out, folder, roots=(folder, package_root()), progress=Silent()))
    read = [(out / name).read_text().splitlines() for name in ("metrics.jsonl", "completions.jsonl")]
    return [json.loads(line) for line in read[0]], [json.loads(line) for line in read[1]]


@pytest.mark.parametrize(("lmbda", "beta"), [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)])
def test_the_student_comes_nearer_to_its_teacher(tmp_path: Path, models: Path, lmbda: float, beta: float) -> None:
    """Divergence a token; on the data's answers, on its own, on both in the share that is asked for. The control asks
    the same prompts and does not learn.
    """
    still = {"optim": {"lr": 1e-12, "schedule": "constant"}}
    control, _ = done(stage(tmp_path, models, lmbda=lmbda, beta=beta, **still), tmp_path)
    (tmp_path / "out").rename(tmp_path / "control")
    lines, answers = done(stage(tmp_path, models, lmbda=lmbda, beta=beta), tmp_path)
    assert lines[0]["loss"] == pytest.approx(control[0]["loss"], rel=1e-5)
    learned, idle = (mean(one["loss"] for one in part[-3:]) for part in (lines, control))
    assert learned < 0.6 * idle, (learned, idle)
    own = sum(not one["given"] for one in answers)
    assert all(one["response"].startswith("It is ") for one in answers if one["given"])
    assert len(answers) == 8 * 25
    assert {0.0: own == 0, 0.5: 0.35 < own / len(answers) < 0.65, 1.0: own == len(answers)}[lmbda]
    assert "reward" not in lines[0] and "completions/mean_length" in lines[0]


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_a_stage_is_the_teacher_of_another(user: User, kind: str) -> None:
    """Weights or an adapter: the student, the model that the teacher began as, is apart from it and comes nearer."""
    user.write("recipes/taught.yaml", TAUGHT)
    code, told = user.tell("recipe=taught", f"stages.teach.train_type.kind={kind}")
    assert code == 0, told
    metrics = user.root / "outputs/taught/learn/metrics.jsonl"
    losses = [json.loads(line)["loss"] for line in metrics.read_text().splitlines()]
    assert losses[0] > 1e-4 and losses[-1] < 0.7 * losses[0], losses


def test_an_evaluation_tells_the_divergence_on_answers_to_prompts_kept_aside(tmp_path: Path, models: Path) -> None:
    """They need no answer in the data; the best checkpoint is that of the lowest divergence."""
    talks = [{"messages": [{"role": "user", "content": f"Why {number}?"}]} for number in range(4)]
    (tmp_path / "aside.jsonl").write_text("".join(json.dumps(talk) + "\n" for talk in talks))
    mix = {"datasets": [str(tmp_path / "rows.jsonl")], "validation": {"datasets": [str(tmp_path / "aside.jsonl")]}}
    lines, _ = done(stage(tmp_path, models, mix=mix, eval={"every": 5, "max_rows": 3}), tmp_path)
    told = [line for line in lines if "eval_loss" in line]
    assert [line["update"] for line in told] == [5, 10, 15, 20, 25]
    assert told[-1]["eval_loss"] < 0.8 * told[0]["eval_loss"] and "eval_reward" not in told[0]
    assert all(line["eval_rows"] == 3 and 0 < line["eval_completions/mean_length"] <= 8 for line in told)
    assert len((tmp_path / "out/evaluations.jsonl").read_text().splitlines()) == 15


def test_a_teacher_with_another_vocabulary_is_refused(tmp_path: Path, models: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["brand", "new"])
    other = tiny_model(tmp_path / "other")
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(other)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(other)
    tokenizer.save_pretrained(other)
    with pytest.raises(
        ModelError, match=r"teacher: .* has another vocabulary than .*Take a teacher of the same family"
    ):
        done(stage(tmp_path, models, teacher={"id": str(other)}), tmp_path)


def test_rows_need_answers_only_where_some_are_taken_from_them(tmp_path: Path, models: Path) -> None:
    with pytest.raises(DataError, match=r"no assistant turn. None of the 8 rows"):
        done(stage(tmp_path, models, answered=False), tmp_path)
    (tmp_path / "out").rename(tmp_path / "before")
    lines, _ = done(stage(tmp_path, models, answered=False, lmbda=1.0, max_updates=2), tmp_path)
    assert len(lines) == 2
