"""The sft stage: from rows to a folder that can be loaded, and the keys that it refuses."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from runner.core.errors import ConfigError, DataError, Interrupted, ModelError
from runner.core.job import Job
from runner.core.schema import build
from runner.core.specs import Model
from runner.stages.sft import Sft
from tests.tiny import tiny_model


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny chat model."""
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Forty conversations, a third of them of two rounds."""
    file = tmp_path / "rows.jsonl"
    with open(file, "w", encoding="utf-8") as stream:
        for number in range(40):
            talk = [
                {"role": "user", "content": f"who are you {number}?"},
                {"role": "assistant", "content": "I am a small model."},
            ]
            stream.write(json.dumps({"messages": talk * (2 if number % 3 == 0 else 1)}) + "\n")
    return file


def stage(base: Path, rows: Path, **keys: Any) -> Sft:
    given = {"model": {"id": str(base)}, "mix": {"datasets": [str(rows)], "validation": {"rows": 4}}, **keys}
    return build(Sft, given, "stages.train")


def run(made: Sft, folder: Path, **keys: Any) -> Any:
    folder.mkdir(parents=True, exist_ok=True)
    return made.run(Job(name="train", folder=folder, run=folder, **keys))


def test_rows_longer_than_the_model_was_made_for_are_told(
    base: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    short = tmp_path / "short"
    shutil.copytree(base, short)
    config = json.loads((short / "config.json").read_text())
    (short / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 32}))
    run(stage(short, rows, max_updates=1, mix={"datasets": [str(rows)]}), tmp_path / "out")
    told = " of 40 sequences are longer than the 32 tokens that the model was made for (max_position_embeddings); max_"
    assert told in capsys.readouterr().out
    run(stage(base, rows, max_updates=1), tmp_path / "other")
    assert "was made for" not in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_a_mix_becomes_an_adapter_or_a_model(base: Path, rows: Path, tmp_path: Path, kind: str):
    from runner.models.load import load_model, load_tokenizer
    from runner.models.locate import locate

    keys = {"train_type": {"kind": kind}, "optim": {"lr": 1e-2}, "epochs": 3, "log": {"every": 1}, "batch": {"rows": 6}}
    made = run(stage(base, rows, **keys), tmp_path / "out")
    assert made.kind == ("adapter" if kind == "lora" else "model") and made.base == str(base)
    assert made.path == str(tmp_path / "out" / "model")
    assert made.metrics["updates"] == 18 and made.metrics["rows"] == 3 * 36
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    logged = [line for line in lines if "loss" in line]
    assert len(logged) == 18 and logged[-1]["loss"] < 0.9 * logged[0]["loss"]
    assert [line["eval_rows"] for line in lines if "eval_loss" in line] == [4]
    assert (tmp_path / "out" / "loss.png").read_bytes().startswith(b"\x89PNG")
    located = locate(Model(id=made.path), "modelscope")
    assert (located.adapter is not None) == (kind == "lora") and located.base == (
        base if kind == "lora" else Path(made.path)
    )
    load_model(located, Model(id=made.path))
    assert load_tokenizer(located).chat_template


@pytest.mark.parametrize("kind", ["dora", "rslora"])
def test_other_adapters_learn_and_become_a_model_that_says_the_same(base: Path, rows: Path, tmp_path: Path, kind: str):
    from runner.stages.merge import Merge

    lora = {"rank": 4, "alpha": 8, "dropout": 0.0, kind: True}
    keys = {"train_type": {"kind": "lora", "lora": lora}, "optim": {"lr": 1e-2}, "log": {"every": 1}}
    made = run(stage(base, rows, max_updates=6, epochs=3, batch={"rows": 8}, **keys), tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert len(losses) == 6 and losses[-1] < 0.95 * losses[0]
    assert json.loads((Path(made.path) / "adapter_config.json").read_text())[f"use_{kind}"] is True
    (tmp_path / "merge").mkdir()
    whole = Merge(model=Model(id=made.path)).run(Job(name="merge", folder=tmp_path / "merge", run=tmp_path))
    assert whole.metrics["same_next_token"] > 0.99 and whole.metrics["difference"] < 1e-4


def test_the_highest_rate_depends_on_what_learns(base: Path, rows: Path, tmp_path: Path):
    for kind, rate in (("lora", 1e-4), ("full", 1e-5)):
        keys = {"train_type": {"kind": kind}, "max_updates": 1, "optim": {"schedule": "constant"}}
        run(stage(base, rows, **keys), tmp_path / kind)
        assert json.loads((tmp_path / kind / "metrics.jsonl").read_text().splitlines()[0])["lr"] == rate


def test_as_many_rows_are_evaluated_as_wanted(base: Path, rows: Path, tmp_path: Path):
    keys = {"eval": {"every": 1, "max_rows": 2}, "max_updates": 2}
    run(stage(base, rows, **keys), tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert [(line["update"], line["eval_rows"]) for line in lines if "eval_loss" in line] == [(1, 2), (2, 2)]


def test_updates_of_packs_and_of_tokens(base: Path, rows: Path, tmp_path: Path):
    for name, keys in (
        ("packs", {"batch": {"packs": 4}, "max_length": 128}),
        ("tokens", {"batch": {"tokens": 512}}),
    ):
        run(stage(base, rows, log={"every": 1}, **keys), tmp_path / name)
        lines = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        tokens = [line["tokens"] for line in lines if "loss" in line]
        assert max(tokens) <= 512 and min(tokens[:-1]) > 300


def test_no_evaluation_is_said_where_one_was_asked_for(base: Path, rows: Path, tmp_path: Path, capsys):
    keys = {"eval": {"every": 1}, "max_updates": 1, "mix": {"datasets": [str(rows)]}}
    run(stage(base, rows, **keys), tmp_path / "out")
    assert "nothing is kept aside for evaluation (mix.validation)" in capsys.readouterr().out


def test_a_stop_while_rows_are_read(base: Path, rows: Path, tmp_path: Path):
    with pytest.raises(Interrupted, match="stopped before the first update"):
        run(stage(base, rows), tmp_path / "out", stopping=lambda: True)


def test_rows_of_which_nothing_is_trained(base: Path, tmp_path: Path):
    file = tmp_path / "questions.jsonl"
    file.write_text('{"messages": [{"role": "user", "content": "who?"}]}\n')
    with pytest.raises(DataError, match="no assistant turn"):
        run(stage(base, file, mix={"datasets": [str(file)]}), tmp_path / "out")


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"batch": {"packs": 4}}, "stages.train.batch.packs: counts sequences of max_length"),
        ({"model": {"id": "BASE", "dtype": "float16"}}, "stages.train.model.dtype: float16 overflows"),
        ({"optim": {"betas": [0.9]}}, "stages.train.optim.betas: two numbers are wanted"),
        ({"optim": {"lr": 1e-5, "min_lr": 1e-4}}, "stages.train.optim.min_lr: 0.0001 is above optim.lr, 1e-05"),
        ({"model": {"id": "./absent"}}, "stages.train.model.id: no folder './absent' here"),
        ({"mix": {"datasets": []}}, "stages.train.mix.datasets: empty"),
        ({"loss_scale": ["defualt"]}, "stages.train.loss_scale: no loss scale named 'defualt'. Did you mean default?"),
    ],
)
def test_what_is_refused_when_planning(base: Path, rows: Path, keys: dict[str, Any], told: str):
    for part in keys.values():
        if isinstance(part, dict) and part.get("id") == "BASE":
            part["id"] = str(base)
    with pytest.raises(ConfigError) as error:
        stage(base, rows, **keys).check([], "stages.train")
    assert str(error.value).startswith(told)


def test_planning_imports_nothing_heavy(base: Path, rows: Path):
    import subprocess
    import sys

    code = (
        "import sys; from runner.core.schema import build; from runner.stages.sft import Sft\n"
        f"build(Sft, {{'model': {{'id': {str(base)!r}}}, 'mix': {{'datasets': [{str(rows)!r}]}}}}).check([], 'x')\n"
        "print({'torch', 'transformers', 'datasets', 'peft', 'accelerate', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"optim": {"name": "adamw_8bit"}}, r"optim\.name: 'adamw_8bit' needs the package bitsandbytes.*pip install"),
        ({"log": {"trackers": ["wandb"]}}, r"log\.trackers: 'wandb' needs the package wandb.*pip install wandb"),
        ({"train_type": {"kind": "qlora"}}, r"train_type\.kind: qlora needs the package bitsandbytes"),
    ],
)
def test_what_is_not_installed_is_told_before_anything_is_read(
    base: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: dict[str, Any], told: str
) -> None:
    """It came once the data was encoded and the model loaded."""
    for package in ("bitsandbytes", "wandb"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr("runner.models.load.load_tokenizer", lambda *_, **__: pytest.fail("something was read"))
    with pytest.raises((ConfigError, ModelError), match=told):
        stage(base, rows, **keys).run(Job("train", tmp_path / "out", tmp_path))


def test_a_tracker_is_given_the_numbers_of_every_line(
    base: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the name of run and stage."""
    from transformers import TrainerCallback
    from transformers.integrations import integration_utils

    from runner.training import needed

    seen: list[tuple[str, int, dict[str, float]]] = []

    class Tracker(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            seen.append((args.run_name, state.global_step, logs))

    monkeypatch.setattr(needed, "_look", lambda *_: None)
    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "tensorboard", Tracker)
    out = tmp_path / "my_run" / "train"
    out.mkdir(parents=True)
    keys = {"log": {"trackers": ["tensorboard"], "every": 1}, "max_updates": 3, "eval": {"every": 3}}
    stage(base, rows, **keys).run(Job("train", out, out.parent))
    assert {name for name, _, _ in seen} == {"my_run/train"}
    assert [step for _, step, logs in seen if "loss" in logs] == [1, 2, 3]
    assert [step for _, step, logs in seen if "eval_loss" in logs] == [3]
