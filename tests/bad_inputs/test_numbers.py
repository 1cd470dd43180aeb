"""Numbers that go wrong while training, through the whole command: never exit 0 with less than what was planned."""

import json
from typing import Any

import pytest

from tests.user import User


def test_updates_without_a_finite_loss_are_written_down_and_end_the_run(user: User) -> None:
    """A rate that blows the weights up: the first three updates in a row without a finite loss stop it."""
    words = ["train_type=full", "optim.lr=1e30", "optim.max_grad_norm=0", "epochs=3", "log.every=1"]
    code, told = user.tell("recipe=mine", *words)
    assert code == 1 and "train: 3 updates in a row, the last " in told and "or lower optim.lr." in told
    file = user.root / "outputs" / "mine" / "train" / "skipped_updates.jsonl"
    skipped = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(skipped) == 3 and all(len(line["rows"]) == 4 for line in skipped)
    assert not (user.root / "outputs" / "mine" / "train" / "artifact.json").exists()


def test_fewer_updates_than_planned_is_a_failure(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ends a training early, it is not complete."""
    from runner.training._beat import Beat

    before = Beat.on_step_end

    def early(self: Any, args: Any, state: Any, control: Any, **more: Any) -> None:
        before(self, args, state, control, **more)
        control.should_training_stop = state.global_step >= 2

    monkeypatch.setattr(Beat, "on_step_end", early)
    code, told = user.tell("recipe=mine")
    assert code == 1 and "train: 2 of 5 planned updates were done" in told, told
    assert not (user.root / "outputs" / "mine" / "train" / "artifact.json").exists()
