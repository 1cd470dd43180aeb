"""The picture of a training."""

import json
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from runner.report.curve import _figures, curve


def write(file: Path, *lines: dict[str, object]) -> Path:
    file.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"update": 9, "lo')
    return file


def test_a_picture_of_both_losses(tmp_path: Path):
    lines = [{"update": n, "loss": 4 / n, "lr": 1e-4 / n} for n in range(1, 9)]
    metrics = write(
        tmp_path / "metrics.jsonl", *lines, {"update": 8, "eval_loss": 0.6}, {"update": 9, "loss": None, "lr": 0}
    )
    made = curve(metrics, tmp_path / "loss.png", "a run")
    assert made is not None and made.read_bytes().startswith(b"\x89PNG") and made.stat().st_size > 5000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["loss.png", "metrics.jsonl"]


def test_evaluations_change_the_picture(tmp_path: Path):
    lines = [{"update": n, "loss": 4 / n, "lr": 1e-4 / n} for n in range(1, 9)]
    without = curve(write(tmp_path / "a.jsonl", *lines), tmp_path / "a.png")
    with_it = curve(write(tmp_path / "b.jsonl", *lines, {"update": 8, "eval_loss": 3.0}), tmp_path / "b.png")
    assert without is not None and with_it is not None and without.read_bytes() != with_it.read_bytes()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("title", ["a$x_y_z$b: train", "训练: train"])
def test_a_run_may_have_any_name(tmp_path: Path, title: str):
    """It was read as a formula, and that was a traceback at the end of each training; or told letter by letter."""
    metrics = write(tmp_path / "metrics.jsonl", {"update": 1, "loss": 3.0, "lr": 1e-3})
    assert curve(metrics, tmp_path / "loss.png", title) is not None


def test_nothing_to_draw(tmp_path: Path):
    assert curve(tmp_path / "absent.jsonl", tmp_path / "loss.png") is None
    assert curve(write(tmp_path / "m.jsonl", {"update": 1, "eval_loss": 1.0}), tmp_path / "loss.png") is None
    assert not (tmp_path / "loss.png").exists()


def test_rewards_are_drawn_where_they_are_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text(
        "".join(json.dumps({"update": n, "lr": 1e-5, "loss": 0.0, "reward": n / 9}) + "\n" for n in (1, 2, 3))
    )
    assert curve(file, tmp_path / "reward.png", what="reward") == tmp_path / "reward.png"
    assert curve(file, tmp_path / "other.png", what="kl") is None


def test_rewards_of_evaluations_are_drawn_with_their_bounds(tmp_path: Path) -> None:
    lines = [{"update": n, "lr": 1e-5, "loss": 0.0, "reward": n / 9} for n in (1, 2, 3)]
    told = {"update": 3, "eval_reward": 0.5, "eval_reward_low": 0.4, "eval_reward_high": 0.6}
    pictures = []
    for number, more in enumerate([[], [told], [{**told, "eval_reward_high": 0.9}]]):
        file = write(tmp_path / f"{number}.jsonl", *lines, *more)
        made = curve(file, tmp_path / f"{number}.png", what="reward")
        assert made is not None
        pictures.append(made.read_bytes())
    assert len(set(pictures)) == 3


def test_the_best_evaluation_is_one_whose_model_was_kept() -> None:
    """An evaluation before the first update is drawn; the legend names a later one."""
    lines = [{"update": n, "loss": 4 / n, "lr": 1e-4 / n} for n in range(1, 4)]
    start, told = {"update": 0, "eval_loss": 0.1}, []
    for later in ([{"update": 3, "eval_loss": 0.5}], []):
        axes = Figure().subplots()
        _figures(axes, lines, [start, *later], "", "loss")
        told.append(axes.get_legend_handles_labels()[1][1])
    assert told == ["evaluation, best 0.5 at update 3", "evaluation, best 0.1 at update 0"]
