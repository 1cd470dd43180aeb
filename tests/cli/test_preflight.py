"""`inspect` on a recipe that samples answers: what a person learns before the first update."""

import json

import pytest

from tests.bad_inputs.rl import FINE, RECIPE
from tests.user import User, tiny_folder, user_at_work  # noqa: F401 - fixtures


def test_it_tells_spread_lengths_best_and_worst(user: User, capsys) -> None:
    user.write("recipes/rl.yaml", RECIPE)
    user.write("plugins/rewards/mine.py", FINE)
    user.write("plugins/rewards/same.py", "def same(completions): return [1.0] * len(completions)\n")
    from runner.__main__ import main

    assert main(["inspect", "recipe=rl", "--count", "3", "--output", "answers.jsonl"]) == 0
    told = capsys.readouterr().out
    assert "3 of 20 prompts x 4 answers of tiny" in told and "of 3 without a spread" in told
    assert "cut off at 4" in told and "\nbest: mine " in told and "\nworst: mine " in told and ">>> What is" in told
    rows = [json.loads(line) for line in (user.root / "answers.jsonl").read_text().splitlines()]
    assert len(rows) == 12 and all(set(row["rewards"]) == {"mine"} for row in rows)
    assert main(["inspect", "recipe=rl", "++reward.same={}", "reward.mine.weight=0.0", "--count", "2"]) == 0
    assert "groups     2 of 2 without a spread: nothing is learned from them" in capsys.readouterr().out
    assert not (user.root / "outputs").exists()


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["stages.train.kind=gkd", "+stages.train.teacher=tiny", "reward=[]"], "\nfirst: rows.jsonl:"),
        (["stages.train.kind=ppo", "train_type.kind=full"], "\nbest: mine "),
    ],
)
def test_nothing_is_said_of_groups_where_they_are_not_compared(
    user: User, capsys: pytest.CaptureFixture[str], words: list[str], shown: str
) -> None:
    """A teacher or a value head tells what to learn; a table without rewards was shown too."""
    user.write("recipes/rl.yaml", RECIPE)
    user.write("plugins/rewards/mine.py", FINE)
    from runner.__main__ import main

    assert main(["inspect", "recipe=rl", *words, "--count", "2"]) == 0
    told = capsys.readouterr().out
    assert shown in told and "\nlengths " in told and "without a spread" not in told
    assert ("distribution" in told) is ("mine" in shown)


def test_answers_that_could_not_be_given_are_not_scored(
    user: User, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty text had a score and a length like an answer's; how many there are is told, and why."""
    user.write("recipes/rl.yaml", RECIPE)
    user.write("plugins/rewards/mine.py", "def mine(completions): return [float(bool(c)) for c in completions]\n")
    from runner.__main__ import main
    from runner.backends import _completion
    from runner.backends.transformers import Transformers

    whole, words = Transformers._completion, ["inspect", "recipe=rl", "--count", "2"]
    for lost, code, more in (((0, 1), 0, ["--output", "answers.jsonl"]), ((0, 1, 2, 3), 1, [])):

        def broken(self, prompt, row, sampling, sample, lost=lost):
            failed = _completion.failure(prompt, "the engine is gone", sample)
            return failed if sample in lost else whole(self, prompt, row, sampling, sample)

        monkeypatch.setattr(Transformers, "_completion", broken)
        assert main([*words, *more]) == code
    told = capsys.readouterr()
    assert "4 of 8 answers could not be given, which ends a training. prompt rows.jsonl:" in told.out
    assert ": the engine is gone.\n" in told.out and "lengths    0" not in told.out
    assert "none of the 8 answers could be given. prompt rows.jsonl:" in told.err
    rows = [json.loads(line) for line in (user.root / "answers.jsonl").read_text().splitlines()]
    assert len(rows) == 4 and all(row["reward"] == 1.0 for row in rows)


def test_mistakes_end_it_with_a_sentence(user: User) -> None:
    user.write("recipes/rl.yaml", RECIPE)
    user.write("plugins/rewards/mine.py", "def mine(completions): raise KeyError('x')\n")
    assert user.tell("inspect", "recipe=rl", "--count", "2") == (0, "")  # all have failed, and the table says so
    for words, wrong in {
        ("--longest",): "--longest: stage 'train' samples answers. It takes --count N and --output FILE.",
        ("--index", "0"): "--index: stage 'train' samples answers. It takes --count N and --output FILE.",
        ("--count", "0"): "--count: should be at least 1, not 0.",
        ("--count", "-1"): "--count: should be at least 0, not -1.",
    }.items():
        assert user.tell("inspect", "recipe=rl", *words) == (2, f"command line: {wrong}\n")
    user.write("plugins/rewards/mine.py", "def mine(completions): return [1]\n")
    code, told = user.tell("inspect", "recipe=rl", "--count", "2")
    assert code == 2 and told.startswith("reward mine: returned 1 scores for 8 completions.")
