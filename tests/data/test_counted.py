"""A plan is exact about a mix that was encoded before, and guesses again once what decides it changes."""

import json
from collections.abc import Sequence

import pytest

from runner.__main__ import main
from tests.user import User, tiny_folder, user_at_work  # noqa: F401 - fixtures


def planned(capsys: pytest.CaptureFixture[str], *words: str) -> Sequence[str]:
    """The data line, the updates line and the total of a plan."""
    capsys.readouterr()
    assert main(["plan", "+recipe=mine", *words]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    return [next(line for line in lines if line.startswith(word)) for word in ("data", "updates", "total")]


def test_plan_is_exact_once_the_mix_was_encoded(user: User, capsys: pytest.CaptureFixture[str]) -> None:
    """Tokens are guessed before; after a run they are those that it trained on, whatever the optimizer."""
    guessed = planned(capsys)
    assert "~" in guessed[0] and "~" in guessed[2]
    assert user.tell("+recipe=mine") == (0, "")
    metrics = json.loads((user.root / "outputs/mine/train/artifact.json").read_text())["metrics"]
    exact = planned(capsys, "optim.lr=3e-4", "name=other")
    assert exact[0].endswith(f"20 rows, {metrics['tokens']:,} tokens")
    assert exact[1].split()[1] == str(metrics["updates"]) and "~" not in exact[2]


@pytest.mark.parametrize(
    "change", ["max_length=50", "loss_scale=[all]", "seed=1", "mix.datasets=[rows.jsonl#10]", "a row"]
)
def test_what_decides_the_encoding_makes_it_a_guess_again(
    user: User,
    capsys: pytest.CaptureFixture[str],
    change: str,
) -> None:
    """A key that changes sequences, or the data itself."""
    assert user.tell("+recipe=mine") == (0, "")
    if change == "a row":
        user.write("rows.jsonl", (user.root / "rows.jsonl").read_bytes().replace(b"It is 3.", b"It is three, I think."))
    changed = planned(capsys, "name=other", *([] if change == "a row" else [change]))
    assert "~" in changed[0]
