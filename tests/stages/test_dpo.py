"""The dpo stage: a reference that is computed once, preferences that are learned, and the keys that it refuses."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from runner.core.errors import ConfigError, DataError, Interrupted, StageError
from runner.core.job import Job
from tests.stages import run_judged
from tests.tiny import tiny_model
from tests.training.test_resume import figures

SHORT = {"batch": {"rows": 6, "tokens_per_device": 300}, "optim": {"lr": 1e-3}, "log": {"every": 1}}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny chat model."""
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty pairs."""
    return run_judged.pairs(tmp_path_factory.mktemp("data") / "pairs.jsonl", 40)


def run(made: Any, folder: Path, **keys: Any) -> Any:
    folder.mkdir(parents=True, exist_ok=True)
    return made.run(Job(name="train", folder=folder, run=folder, **keys))


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_held_out_preferences_are_learned(
    base: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
):
    """Beside the same stage with a rate that changes nothing: its accuracy is that of a coin, its margin 0."""
    monkeypatch.chdir(rows.parent)  # which rows are kept aside depends on the name of their file as it is said
    keys = {
        **SHORT,
        "train_type": {"kind": kind},
        "epochs": 4,
        "mix": {"datasets": [rows.name], "validation": {"rows": 16}},
    }
    learned = run(run_judged.stage("dpo", base, rows, **keys), tmp_path / "learned").metrics
    control = {**keys, "optim": {"lr": 1e-12}}
    before = run(run_judged.stage("dpo", base, rows, **control), tmp_path / "control").metrics
    assert learned["eval_accuracy"] >= 0.9 and learned["eval_margin"] > 0.2
    assert learned["eval_loss"] < before["eval_loss"] - 0.1
    assert before["eval_accuracy"] < 0.9 and abs(before["eval_margin"]) < 1e-4
    assert before["eval_loss"] == pytest.approx(0.6931, abs=1e-3)
    first, last = lines(tmp_path / "learned")[0], lines(tmp_path / "learned")[-1]
    assert abs(first["margin"]) < 1e-4 and first["loss"] == pytest.approx(0.6931, abs=1e-3)
    assert last["eval_rewards_chosen"] > last["eval_rewards_rejected"] and last["eval_rows"] == 16


def test_adapter_and_model_begin_at_their_reference_and_the_adapter_alone_is_left(
    base: Path, rows: Path, tmp_path: Path
):
    made = run(run_judged.stage("dpo", base, rows, **SHORT, max_updates=1), tmp_path / "out")
    assert made.kind == "adapter" and (Path(made.path) / "adapter_model.safetensors").is_file()


def digest(folder: Path) -> dict[str, str]:
    files = (folder / "model").glob("*.safetensors")
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_killed_and_resumed_is_as_never_stopped(
    base: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
):
    """In the pass over the reference and after updates; what was computed of the reference is not computed again."""
    monkeypatch.setenv("RUNNER_CACHE", str(tmp_path / ".cache"))
    keys = {**SHORT, "train_type": {"kind": kind}, "epochs": 2, "eval": {"every": 4}, "save": {"every": 3}}
    made = run_judged.stage("dpo", base, rows, **keys)
    assert run_judged.run(tmp_path / "whole", made) == 0
    killed = tmp_path / "killed"
    assert run_judged.run(killed, made, "reference", 48) == -9
    whole = (killed / "reference.jsonl").read_text()
    assert sum(len(json.loads(line).get("sequences", ())) for line in whole.splitlines()) == 48
    (killed / "reference.jsonl").write_text(whole + '{"sequences": [70, 7')  # as a crash may leave it
    assert run_judged.run(killed, made, "updates", 2) == -9  # before the first checkpoint
    before = (killed / "reference.jsonl").stat().st_mtime_ns
    assert run_judged.run(killed, made, "updates", 7) == -9
    assert run_judged.run(killed, made) == 0
    assert (killed / "reference.jsonl").stat().st_mtime_ns == before
    assert digest(killed) == digest(tmp_path / "whole") and digest(killed)
    assert figures(killed) == figures(tmp_path / "whole")


def test_a_reference_that_is_gone_cannot_be_made_again(base: Path, rows: Path, tmp_path: Path):
    made = run_judged.stage("dpo", base, rows, **SHORT, save={"every": 2})
    assert run_judged.run(tmp_path / "out", made, "updates", 4) == -9
    (tmp_path / "out" / "reference.jsonl").unlink()
    with pytest.raises(DataError, match=r"reference\.jsonl: lacks 80 of 80 sequences, and the model has learned for 2"):
        run(made, tmp_path / "out")


def test_only_what_is_asked_for_is_computed(base: Path, rows: Path, tmp_path: Path):
    """Two updates of six pairs, and four pairs kept aside."""
    run(run_judged.stage("dpo", base, rows, **SHORT, max_updates=2), tmp_path / "out")
    held = [json.loads(line) for line in (tmp_path / "out" / "reference.jsonl").read_text().splitlines()]
    assert sum(len(line.get("sequences", ())) for line in held) == 2 * 12 + 8


def test_what_other_settings_left_is_not_taken(base: Path, rows: Path, tmp_path: Path):
    """Stopped before its first checkpoint, a training may be given again with another model: the same rows in the same
    tokens, and the reference was that of the model before.
    """
    other = tiny_model(tmp_path / "other", seed=5)
    keys = {**SHORT, "max_updates": 1}
    run(run_judged.stage("dpo", base, rows, **keys), tmp_path / "out", fingerprint="one")
    run(run_judged.stage("dpo", other, rows, **keys), tmp_path / "fresh", fingerprint="other")
    (tmp_path / "again").mkdir()
    shutil.copy(tmp_path / "out" / "reference.jsonl", tmp_path / "again")
    run(run_judged.stage("dpo", other, rows, **keys), tmp_path / "again", fingerprint="other")
    assert lines(tmp_path / "again")[0]["margin"] == lines(tmp_path / "fresh")[0]["margin"]


def test_without_a_reference_nothing_is_computed(base: Path, rows: Path, tmp_path: Path):
    run(run_judged.stage("dpo", base, rows, **SHORT, max_updates=1, reference="free"), tmp_path / "out")
    assert not (tmp_path / "out" / "reference.jsonl").exists()


def test_dropout_is_off_unless_wanted(base: Path, rows: Path, tmp_path: Path):
    """At the start the model is its reference to the last bit or so; with dropout it is not."""
    noisy = {"kind": "lora", "lora": {"dropout": 0.5}}
    keys = {**SHORT, "max_updates": 2, "batch": {"rows": 20}, "train_type": noisy, "optim": {"lr": 1e-2}}
    quiet = run(run_judged.stage("dpo", base, rows, **keys), tmp_path / "quiet")
    again = run(run_judged.stage("dpo", base, rows, **keys, disable_dropout=False), tmp_path / "noisy")
    assert quiet.metrics["loss"] != again.metrics["loss"]


def test_a_pair_that_does_not_fit_into_memory_ends_with_one_sentence(
    base: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It cannot be cut, so smaller micro-batches are not tried for ever."""
    import torch

    from runner.algorithms.dpo import Dpo

    def loss(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Dpo, "loss", loss)
    with pytest.raises(StageError, match=r"ran out of memory on one pair of \d+ tokens.*Lower max_length"):
        run(run_judged.stage("dpo", base, rows, **SHORT), tmp_path / "out")


def test_an_adapter_that_learned_is_the_reference_of_the_next_stage(base: Path, rows: Path, tmp_path: Path):
    """Not the base below it: at the start nothing has been gained yet."""
    first = run(run_judged.stage("dpo", base, rows, **SHORT, max_updates=4), tmp_path / "first")
    run(run_judged.stage("dpo", Path(first.path), rows, **SHORT, max_updates=1), tmp_path / "second")
    (line,) = [line for line in lines(tmp_path / "second") if "loss" in line]
    assert line["loss"] == pytest.approx(0.6931, abs=1e-3) and abs(line["margin"]) < 1e-4


def test_a_stop_in_the_pass_over_the_reference(base: Path, rows: Path, tmp_path: Path):
    """Nothing is learned and nothing is lost."""
    seen: list[int] = []

    def stopping() -> bool:
        seen.append(1)
        return len(seen) > 3  # after rows are read

    with pytest.raises(Interrupted, match="stopped after update 0 of 6"):
        run(run_judged.stage("dpo", base, rows, **SHORT), tmp_path / "out", stopping=stopping)
    assert run(run_judged.stage("dpo", base, rows, **SHORT), tmp_path / "out").metrics["updates"] == 6


def test_rows_without_two_answers(base: Path, tmp_path: Path):
    file = tmp_path / "plain.jsonl"
    file.write_text('{"query": "a", "response": "b"}\n')
    with pytest.raises(DataError, match="chosen and rejected are missing"):
        run(run_judged.stage("dpo", base, file, mix={"datasets": [str(file)]}), tmp_path / "out")


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"loss_type": "ipoo"}, "stages.train.loss_type: should be 'sigmoid',"),
        ({"loss_type": []}, "stages.train.loss_type"),
        ({"beta": 0.0}, "stages.train.beta: should be greater than 0"),
        ({"label_smoothing": 0.5}, "stages.train.label_smoothing: should be less than 0.5"),
        ({"loss_type": ["ipo", "sft"], "loss_weights": [1.0]}, "stages.train.loss_weights: 1 weights. One for each"),
        ({"loss_type": "exo_pair"}, "stages.train.label_smoothing: exo_pair needs one above 0"),
        ({"label_smoothing": 0.1}, "stages.train.label_smoothing: 0.1 means nothing to sigmoid. Take"),
        ({"reference": "none"}, "stages.train.reference: should be 'precomputed' or 'free'"),
        ({"batch": {"packs": 4}}, "stages.train.batch.packs: counts sequences of max_length"),
    ],
)  # fmt: skip
def test_what_is_refused_when_planning(base: Path, rows: Path, keys: dict[str, Any], told: str):
    with pytest.raises(ConfigError) as error:
        run_judged.stage("dpo", base, rows, **keys).check([], "stages.train")
    assert str(error.value).startswith(told)
