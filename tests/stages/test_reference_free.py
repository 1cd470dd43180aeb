"""The simpo and orpo stages: preferences learned without any reference."""

from pathlib import Path
from typing import Any

import pytest

from runner.core.errors import ConfigError
from tests.stages import run_judged
from tests.stages.test_dpo import SHORT, lines, run
from tests.tiny import tiny_model


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny chat model."""
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty pairs, the chosen answer a likely one as often as not."""
    return run_judged.pairs(tmp_path_factory.mktemp("data") / "pairs.jsonl", 40)


@pytest.mark.parametrize("kind", ["simpo", "orpo"])
def test_held_out_preferences_are_learned(
    base: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
):
    """Beside the same stage with a rate that changes nothing."""
    monkeypatch.chdir(rows.parent)  # which rows are kept aside depends on the name of their file as it is said
    rate = {"simpo": 1e-3, "orpo": 5e-3}[kind]
    mix = {"datasets": [rows.name], "validation": {"rows": 16}}
    keys = {**SHORT, "epochs": 4, "mix": mix, "optim": {"lr": rate}}
    learned = run(run_judged.stage(kind, base, rows, **keys), tmp_path / "learned").metrics
    before = run(run_judged.stage(kind, base, rows, **{**keys, "optim": {"lr": 1e-12}}), tmp_path / "control").metrics
    assert learned["eval_accuracy"] >= 0.9
    assert learned["eval_margin"] > before["eval_margin"] + {"simpo": 0.5, "orpo": 0.03}[kind]
    assert learned["eval_loss"] < before["eval_loss"] - 0.2
    assert not (tmp_path / "learned" / "reference.jsonl").exists()
    if kind == "orpo":
        last = [line for line in lines(tmp_path / "learned") if "eval_loss" in line][-1]
        assert last["eval_log_odds"] > 0


@pytest.mark.parametrize(
    ("kind", "keys", "told"),
    [
        ("simpo", {"gamma": 1.0}, "stages.train.gamma: no such key"),
        ("simpo", {"beta": 0.0}, "stages.train.beta: should be greater than 0"),
        ("orpo", {"beta": -1.0}, "stages.train.beta: should be"),
    ],
)
def test_what_is_refused_when_planning(base: Path, rows: Path, kind: str, keys: dict[str, Any], told: str):
    with pytest.raises(ConfigError) as error:
        run_judged.stage(kind, base, rows, **keys).check([], "stages.train")
    assert str(error.value).startswith(told)
