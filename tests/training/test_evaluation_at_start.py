"""An evaluation before the first update: it is told as update 0, once, and changes nothing that is learned."""

import json
from pathlib import Path
from typing import Any

import pytest

from runner.core.specs import Eval, Log, Optim, Save
from runner.training import checkpoints
from runner.training.settings import Settings
from tests.stages import run_judged
from tests.tiny import tiny_model
from tests.training import small
from tests.training.test_resume import figures


def fit(folder: Path, at_start: bool, learner: Any = None, kept: Any = None, **keys: Any) -> Any:
    made = {"lr": 1e-2, "optim": Optim(warmup=0.1), "save": Save(every=3), "log": Log(every=2), **keys}
    settings = Settings(eval=Eval(every=4, at_start=at_start), **made)
    kept = small.rows(6, seed=9) if kept is None else kept
    return small.fit(folder, learner or small.adapter(), small.rows(40), kept=kept, epochs=2, settings=settings)


def evaluated(folder: Path) -> dict[int, float]:
    return {line["update"]: line["eval_loss"] for line in figures(folder) if "eval_loss" in line}


def test_it_is_told_as_update_0_and_changes_nothing_that_is_learned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Dropout is on: a random number drawn more would show."""
    made = [fit(tmp_path / str(at_start), at_start) for at_start in (False, True)]
    weights = [(one.folder / "adapter_model.safetensors").read_bytes() for one in made]
    assert weights[0] == weights[1]
    without, told = figures(tmp_path / "False"), figures(tmp_path / "True")
    assert told[1:] == without and told[0]["update"] == 0 and told[0]["epoch"] == 0 and told[0]["eval_rows"] == 6
    assert made[1].metrics["start_eval_loss"] == told[0]["eval_loss"] > made[1].metrics["eval_loss"]
    assert "start_eval_loss" not in made[0].metrics
    out = capsys.readouterr().out
    assert f"evaluation before the first update: eval_loss {told[0]['eval_loss']:.4g}\n" in out
    assert f"evaluation after update 4: eval_loss {evaluated(tmp_path / 'True')[4]:.4g}\n" in out


def test_it_is_never_the_best_for_no_model_of_that_moment_is_kept(tmp_path: Path) -> None:
    """Of weights that only get worse, the first one that was saved is the best."""
    made = fit(tmp_path, True, small.model(), lr=1.0, optim=Optim(), save=Save(every=2, keep=4))
    told = evaluated(tmp_path)
    assert min(told, key=lambda update: told[update]) == 0, told
    assert made.metrics["best_update"] == min(told.keys() - {0}, key=lambda update: told[update])
    best = checkpoints.best(tmp_path)
    assert best is not None and best.update == made.metrics["best_update"]


def test_asked_for_too_late_it_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = fit(tmp_path, False)
    (whole.folder / "adapter_model.safetensors").unlink()
    made = fit(tmp_path, True)
    assert 0 not in evaluated(tmp_path) and "start_eval_loss" not in made.metrics
    assert "eval.at_start: nothing is evaluated before the first update, which was 10 updates ago" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize(("kind", "make"), [("dpo", "pairs"), ("reward_model", "pairs"), ("kto", "labelled")])
def test_every_training_on_judged_answers_has_it(tmp_path: Path, kind: str, make: str) -> None:
    rows = getattr(run_judged, make)(tmp_path / "rows.jsonl", 20)
    keys = {"batch": {"rows": 4}, "max_updates": 2, "eval": {"every": 2}}
    base = tiny_model(tmp_path / "tiny")
    for at_start in (False, True):
        keys["eval"]["at_start"] = at_start
        assert run_judged.run(tmp_path / str(at_start), run_judged.stage(kind, base, rows, **keys)) == 0
    without, told = figures(tmp_path / "False"), figures(tmp_path / "True")
    assert told[1:] == without and told[0]["update"] == 0
    assert 0.0 <= told[0]["eval_accuracy"] <= 1.0 if kind != "kto" else told[0]["eval_loss"] > 0
    metrics = json.loads((tmp_path / "True" / "made.0.json").read_text())
    assert metrics["start_eval_loss"] == told[0]["eval_loss"]
