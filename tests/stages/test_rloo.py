"""The rloo stage: it learns over a control, and the divergence from its start is part of what an answer is worth."""

from pathlib import Path
from typing import Any

import pytest

from runner.core.errors import StageError
from runner.core.schema import build
from runner.stages.rloo import Rloo
from tests.rollouts.run_sampled import plugin, rows
from tests.stages.test_grpo import LEARN, done
from tests.tiny import tiny_model


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny chat model."""
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def stage(folder: Path, base: Path, **keys: Any) -> Rloo:
    """Over the prompts and the reward of the grpo stage's tests."""
    rows(folder)
    plugin(folder)
    given = {"model": {"id": str(base)}, "mix": {"datasets": [str(folder / "rows.jsonl")]}, "reward": {"letters": {}}}
    more = {"log": {"every": 1}, "sampling": {"max_new_tokens": 6}, "beta": 0.0}
    return build(Rloo, {**given, **more, **LEARN, **keys}, "stages.train")


def test_it_raises_its_reward_over_a_control(tmp_path: Path, base: Path) -> None:
    _, lines, _ = done(stage(tmp_path, base), tmp_path, "learns")
    still = stage(tmp_path, base, optim={"lr": 1e-12, "schedule": "constant"}, max_updates=8)
    _, control, _ = done(still, tmp_path, "control")
    last, idle = (sum(one["reward"] for one in part[-5:]) / 5 for part in (lines, control))
    assert last > 3 * idle, (last, idle)


def test_going_far_from_the_start_costs_reward(tmp_path: Path, base: Path) -> None:
    """With a heavy beta the model stays nearer to where it began."""
    _, free, _ = done(stage(tmp_path, base, beta=1e-6, max_updates=12), tmp_path, "free")
    _, held, answers = done(stage(tmp_path, base, beta=0.5, max_updates=12), tmp_path, "held")
    assert free[-1]["rollout_kl"] > 2 * held[-1]["rollout_kl"] and free[0]["rollout_kl"] == pytest.approx(0.0, abs=1e-6)
    assert sum(one["advantage"] for one in answers[:8]) == pytest.approx(0.0, abs=1e-5)


def test_equal_rewards_end_the_training_though_the_divergence_differs(tmp_path: Path, base: Path) -> None:
    """It is part of an answer's worth, but says nothing of what the reward wants."""
    one = stage(tmp_path, base, beta=0.5, max_idle=3)
    text = "calls = 0\ndef letters(completions):\n    global calls\n    calls += 1\n"
    text += "    return [i % 4 if calls == 1 else 0.5 for i in range(len(completions))]\n"
    plugin(tmp_path, text)  # the first rollout takes the model away from its start
    with pytest.raises(StageError, match=r"3 rollouts in a row had no group .* \(mean reward 0.5\)"):
        done(one, tmp_path)
