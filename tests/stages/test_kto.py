"""The kto stage: labelled answers are learned, with a reference and a baseline that a kill does not change."""

from pathlib import Path
from typing import Any

import pytest

from runner.core.errors import ConfigError, DataError
from tests.stages import run_judged
from tests.stages.test_dpo import SHORT, digest, lines, run
from tests.tiny import tiny_model
from tests.training.test_resume import figures


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny chat model."""
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty labelled answers, good and bad in turn."""
    return run_judged.labelled(tmp_path_factory.mktemp("data") / "labels.jsonl", 40)


def test_held_out_answers_are_told_apart(base: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Beside the same stage with a rate that changes nothing; and pairs made of other rows are preferred rightly."""
    monkeypatch.chdir(rows.parent)  # which rows are kept aside depends on the name of their file as it is said
    keys = {**SHORT, "epochs": 10, "mix": {"datasets": [rows.name], "validation": {"rows": 16}}}
    learned = run(run_judged.stage("kto", base, rows, **keys), tmp_path / "learned")
    before = run(run_judged.stage("kto", base, rows, **{**keys, "optim": {"lr": 1e-12}}), tmp_path / "control").metrics
    assert learned.metrics["eval_accuracy"] >= 0.8 and learned.metrics["eval_margin"] > 0.2
    assert abs(before["eval_margin"]) < 1e-4 and before["eval_loss"] == pytest.approx(0.5, abs=1e-3)
    assert learned.metrics["eval_loss"] < before["eval_loss"] - 0.03
    told = lines(tmp_path / "learned")
    assert all(line["kl"] >= 0 for line in told if "loss" in line)
    assert all(line["eval_kl"] >= 0 for line in told if "eval_loss" in line)
    assert told[-1]["eval_rewards_chosen"] > told[-1]["eval_rewards_rejected"]


@pytest.mark.parametrize("kind", ["kto", "apo_zero_unpaired"])
def test_killed_and_resumed_is_as_never_stopped(
    base: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
):
    monkeypatch.setenv("RUNNER_CACHE", str(tmp_path / ".cache"))
    keys = {**SHORT, "loss_type": kind, "epochs": 2, "eval": {"every": 4}, "save": {"every": 3}}
    made = run_judged.stage("kto", base, rows, **keys)
    assert run_judged.run(tmp_path / "whole", made) == 0
    killed = tmp_path / "killed"
    for what, done in (("reference", 24), ("updates", 2), ("updates", 7)):
        assert run_judged.run(killed, made, what, done) == -9
    assert run_judged.run(killed, made) == 0
    assert digest(killed) == digest(tmp_path / "whole") and digest(killed)
    assert figures(killed) == figures(tmp_path / "whole")


@pytest.mark.parametrize("kind", ["dpo", "kto"])
def test_two_devices_learn_what_one_does(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str):
    """The reference and the baseline are shared out too."""
    monkeypatch.setenv("RUNNER_CACHE", str(tmp_path / ".cache"))
    make = {"dpo": run_judged.pairs, "kto": run_judged.labelled}[kind]
    rows = make(tmp_path / "rows.jsonl", 24)
    alone = run_judged.stage(kind, base, rows, **SHORT, epochs=2)
    assert run_judged.run(tmp_path / "one", alone) == 0
    both = run_judged.stage(kind, base, rows, **SHORT, epochs=2, parallelism={"preset": "ddp", "gpus": 2})
    assert run_judged.run_on(tmp_path / "two", both, 2) == [0, 0]
    one, two = figures(tmp_path / "one"), figures(tmp_path / "two")
    for told, other in zip(one, two, strict=True):
        for key in told.keys() - {"padding_share", "mfu"}:
            assert other[key] == pytest.approx(told[key], rel=1e-4, abs=1e-5), (key, told, other)


def test_numbers_of_both_kinds_are_told(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "rows.jsonl"
    row = '{"query": "q %d", "response": "answer %d", "label": %s}\n'
    file.write_text("".join(row % (n, n, "true" if n % 4 else "false") for n in range(16)))
    keys = {**SHORT, "max_updates": 1, "mix": {"datasets": [str(file)]}}
    run(run_judged.stage("kto", base, file, **keys), tmp_path / "out")
    told = capsys.readouterr().out
    assert "12 desirable answers, 4 undesirable ones: by number and weight 3.00 to 1, and 1 to 1.33 is advised" in told
    assert "For example: undesirable_weight=3" in told
    run(run_judged.stage("kto", base, file, **keys, undesirable_weight=3.0), tmp_path / "again")
    assert "12 desirable answers, 4 undesirable ones\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ('{"query": "a", "response": "b"}\n', "the label is missing"),
        ('{"query": "a", "response": "b", "label": true}\n', "mix.datasets: 1 row, and kto measures against answers"),
    ],
)
def test_rows_that_do_not_serve(base: Path, tmp_path: Path, rows: str, told: str):
    file = tmp_path / "rows.jsonl"
    file.write_text(rows)
    with pytest.raises(DataError, match=told.replace(".", r"\.")):
        run(run_judged.stage("kto", base, file, mix={"datasets": [str(file)]}), tmp_path / "out")


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"loss_type": "sigmoid"}, "stages.train.loss_type: should be 'kto' or 'apo_zero_unpaired', not 'sigmoid'"),
        ({"desirable_weight": -1.0}, "stages.train.desirable_weight: should be"),
        ({"label_smoothing": 0.1}, "stages.train.label_smoothing: no such key"),
    ],
)
def test_what_is_refused_when_planning(base: Path, rows: Path, keys: dict[str, Any], told: str):
    with pytest.raises(ConfigError) as error:
        run_judged.stage("kto", base, rows, **keys).check([], "stages.train")
    assert str(error.value).startswith(told)
