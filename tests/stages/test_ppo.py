"""The ppo stage: it learns over a control, foretells better and better, resumes, and leaves a plain model."""

import json
from pathlib import Path
from typing import Any

import pytest

from runner.core.errors import ConfigError
from runner.core.job import Job
from runner.core.schema import build
from runner.stages.ppo import Ppo
from tests.rollouts.run_sampled import plugin, rows
from tests.stages.test_grpo import done
from tests.tiny import tiny_model
from tests.training.small import Silent


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny chat model."""
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def stage(folder: Path, base: Path, **keys: Any) -> Ppo:
    """Over the prompts and the reward of the grpo stage's tests."""
    rows(folder)
    plugin(folder)
    given = {
        "model": {"id": str(base)}, "mix": {"datasets": [str(folder / "rows.jsonl")]}, "reward": {"letters": {}},
        "train_type": {"kind": "full"}, "optim": {"lr": 5e-3, "schedule": "constant"}, "max_updates": 40,
        "log": {"every": 1}, "sampling": {"max_new_tokens": 6}, "prompts_per_update": 12, "num_generations": 4,
        "num_iterations": 2, "save": {"every": 20}, "kl_coef": 0.01,
    }  # fmt: skip
    return build(Ppo, {**given, **keys}, "stages.train")


def test_it_raises_its_reward_over_a_control(tmp_path: Path, base: Path) -> None:
    """The reward rises, and the critic's error falls; what is left loads as a plain model."""
    artifact, lines, _ = done(stage(tmp_path, base), tmp_path, "learns")
    _, control, _ = done(
        stage(tmp_path, base, optim={"lr": 1e-12, "schedule": "constant"}, max_updates=10), tmp_path, "still"
    )
    last, idle = (sum(one["reward"] for one in part[-5:]) / 5 for part in (lines, control))
    assert last > 2.5 * idle, (last, idle)
    errors = [one["value_loss"] for one in lines]  # while the reward has not begun to run away from what was foretold
    assert sum(errors[8:12]) < 0.7 * sum(errors[:4])
    from safetensors import safe_open

    with safe_open(Path(artifact.path) / "model.safetensors", "pt") as held:
        assert not [name for name in held.keys() if "value" in name]  # noqa: SIM118 - no mapping


class Stop:
    """Asks for a stop after some updates."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self) -> bool:
        return self.left <= 0


def test_it_resumes_with_its_critic(tmp_path: Path, base: Path) -> None:
    """Stopped between two passes over a rollout: figures and weights go on as if it had not been."""
    from runner.core.errors import Interrupted

    keys = {"max_updates": 8, "save": {"every": 3}}
    _, whole, _ = done(stage(tmp_path, base, **keys), tmp_path, "whole")
    out, stop = tmp_path / "out", Stop(5)
    out.mkdir()

    class Count(Silent):
        def update(self, *_: Any, **__: Any) -> None:
            stop.left -= 1

    def job(**more: Any) -> Job:
        return Job("train", out, tmp_path, roots=(tmp_path,), fingerprint="whole", **more)

    with pytest.raises(Interrupted):
        stage(tmp_path, base, **keys).run(job(progress=Count(), stopping=stop))
    stage(tmp_path, base, **keys).run(job(progress=Silent()))
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["value_loss"] for line in lines] == [line["value_loss"] for line in whole]
    assert [line["loss"] for line in lines] == [line["loss"] for line in whole]


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"train_type": {"kind": "lora"}}, r"train_type.kind: lora, and the value head .* Take train_type=full"),
        ({"parallelism": {"preset": "zero3", "gpus": 2}}, r"zero3 splits the value head"),
    ],
)
def test_mistakes_are_told_when_planning(tmp_path: Path, base: Path, keys: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        stage(tmp_path, base, **keys).check([tmp_path], "stages.train")
