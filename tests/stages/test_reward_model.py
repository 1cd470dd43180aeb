"""The reward_model stage: a number learned from pairs, the same in training, in transformers and as a reward."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from runner.core import artifact, registry
from runner.core.errors import ConfigError, ModelError
from runner.core.specs import Model, TrainType
from tests.stages import run_judged
from tests.stages.test_dpo import SHORT, digest, run
from tests.tiny import tiny_model
from tests.training.test_resume import figures
from tests.user import HEAD, User, tiny_folder, user_at_work  # noqa: F401 - fixtures


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny chat model."""
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty pairs."""
    return run_judged.pairs(tmp_path_factory.mktemp("data") / "pairs.jsonl", 40)


def reward(texts: list[str], questions: list[str], model: Path, **keys: Any) -> list[float | None]:
    asked = [[{"role": "user", "content": question}] for question in questions]
    made: list[float | None] = registry.load("rewards", "reward_model")(texts, messages=asked, model=str(model), **keys)
    return made


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_held_out_pairs_are_told_apart_and_the_reward_gives_the_same_numbers(
    base: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
):
    monkeypatch.chdir(rows.parent)  # which rows are kept aside depends on the name of their file as it is said
    mix = {"datasets": [rows.name], "validation": {"rows": 16}}
    keys = {**SHORT, "train_type": {"kind": kind}, "epochs": 3, "mix": mix}
    made = run(run_judged.stage("reward_model", base, rows, **keys), tmp_path / "out")
    assert made.kind == "reward_model" and made.metrics["eval_accuracy"] >= 0.9 and made.metrics["eval_margin"] > 0.5
    control = run(
        run_judged.stage("reward_model", base, rows, **{**keys, "optim": {"lr": 1e-12}}), tmp_path / "control"
    )
    assert control.metrics["eval_margin"] < 0.2 < made.metrics["eval_margin"]
    held = [json.loads(line) for line in rows.read_text().splitlines()]
    questions = [row["prompt"] for row in held]
    good, bad = (reward([row[name] for row in held], questions, Path(made.path)) for name in ("chosen", "rejected"))
    assert sum(a > b for a, b in zip(good, bad, strict=True)) >= 38  # type: ignore[operator]
    alone = [reward([row["chosen"]], [row["prompt"]], Path(made.path), batch=1)[0] for row in held[:3]]
    assert alone == pytest.approx(good[:3], abs=1e-5)  # neither padding nor neighbours count
    config = json.loads((Path(made.path) / "config.json").read_text())
    assert config["architectures"] == ["LlamaForSequenceClassification"]


def test_transformers_reads_the_same_number(base: Path, rows: Path, tmp_path: Path):
    """From logits of its own forward on the sequence as it was trained; in training it was the same too."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    out = tmp_path / "out"
    keys = {**SHORT, "train_type": {"kind": "full"}, "max_updates": 3, "eval": {"every": 3}}
    made = run(run_judged.stage("reward_model", base, rows, **keys), out)
    artifact.write(out, made)
    model = AutoModelForSequenceClassification.from_pretrained(made.path)
    tokenizer = AutoTokenizer.from_pretrained(made.path)
    row = json.loads(rows.read_text().splitlines()[0])
    talk = [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["chosen"]}]
    ids = tokenizer.apply_chat_template(talk, return_dict=False)
    ids = ids[: max(i for i, token in enumerate(ids) if token == tokenizer.eos_token_id) + 1]
    model.config.pad_token_id = None  # it ends a turn here, and transformers would pass over it
    with torch.no_grad():
        told = model(torch.tensor([ids])).logits[0, 0].item()
    assert reward([row["chosen"]], [row["prompt"]], out) == [pytest.approx(told, abs=1e-6)]  # a stage's folder will do
    assert reward([row["chosen"]], [row["prompt"]], out.parent) == [pytest.approx(told, abs=1e-6)]  # and its run's


@pytest.mark.parametrize("kind", ["full", pytest.param("lora", marks=pytest.mark.slow)])
def test_killed_and_resumed_is_as_never_stopped(
    base: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
):
    monkeypatch.setenv("RUNNER_CACHE", str(tmp_path / ".cache"))
    keys = {**SHORT, "train_type": {"kind": kind}, "epochs": 2, "eval": {"every": 4}, "save": {"every": 3}}
    made = run_judged.stage("reward_model", base, rows, **keys)
    assert run_judged.run(tmp_path / "whole", made) == 0
    assert run_judged.run(tmp_path / "killed", made, "updates", 7) == -9
    assert run_judged.run(tmp_path / "killed", made) == 0
    assert digest(tmp_path / "killed") == digest(tmp_path / "whole") and digest(tmp_path / "whole")
    assert figures(tmp_path / "killed") == figures(tmp_path / "whole")


def test_it_is_no_language_model(base: Path, rows: Path, tmp_path: Path):
    from runner.models.locate import locate

    out = tmp_path / "out"
    made = run(run_judged.stage("reward_model", base, rows, **SHORT, max_updates=1), out)
    artifact.write(out, made)
    with pytest.raises(ModelError, match="this stage made reward_model, not a model or an adapter"):
        locate(Model(id=str(out)), "modelscope")


@pytest.mark.parametrize(
    ("there", "said"), [(True, "holds no reward model. Name the folder of one."), (False, "cannot be loaded: ")]
)
def test_a_folder_without_a_reward_model_is_told_in_a_sentence(tmp_path: Path, there: bool, said: str):
    """It was a traceback for each answer, after all of them had been sampled."""
    folder = tmp_path / "out"
    if there:
        folder.mkdir()
    with pytest.raises(ConfigError, match=f"reward.reward_model.params.model: {folder} {said}"):
        reward(["a"], ["b"], folder)


def test_an_adapter_is_refused(base: Path, rows: Path, tmp_path: Path):
    """Its new head would never have learned beside it."""
    from runner.models.load import load_model
    from runner.models.locate import locate
    from runner.models.tune import tune

    model = Model(id=str(base))
    adapter = tmp_path / "adapter"
    tune(load_model(locate(model, ""), model), TrainType(kind="lora")).save_pretrained(adapter)
    with pytest.raises(ModelError, match=r"model.id: \S+/adapter is an adapter, and a reward model has another head"):
        run(run_judged.stage("reward_model", adapter, rows, **SHORT, max_updates=1), tmp_path / "out")


RECIPE = f"""{HEAD}name: judged
mix: {{datasets: [rows.jsonl]}}
optim: {{lr: 1e-3}}
max_length: 160
stages:
  judge: {{kind: reward_model, max_updates: 2}}
  score:
    kind: evaluate
    prompts: [rows.jsonl#3]
    sampling: {{max_new_tokens: 4}}
    reward: {{reward_model: {{params: {{model: "stage:judge"}}}}}}
"""


def test_a_stage_is_the_reward_of_another(user: User) -> None:
    run_judged.pairs(user.root / "rows.jsonl", 12)
    user.write("recipes/judged.yaml", RECIPE)
    code, told = user.tell("recipe=judged")
    assert code == 0, told
    made = json.loads((user.root / "outputs/judged/score/artifact.json").read_text())
    assert "reward_model" in json.dumps(made["metrics"])


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"train_type": {"kind": "qlora"}}, "stages.train.train_type.kind: a reward model is written whole"),
        ({"parallelism": {"preset": "zero3", "gpus": 2}}, "stages.train.parallelism.preset: zero3 splits"),
        ({"center_rewards_coefficient": -1.0}, "stages.train.center_rewards_coefficient: should be"),
    ],
)
def test_what_is_refused_when_planning(base: Path, rows: Path, keys: dict[str, Any], told: str):
    with pytest.raises(ConfigError) as error:
        run_judged.stage("reward_model", base, rows, **keys).check([], "stages.train")
    assert str(error.value).startswith(told)
