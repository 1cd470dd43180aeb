"""Rewards that go wrong in every way: the score is None, never 0, and what happened is told."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.core.errors import PluginError, RunnerError, StageError
from runner.core.specs import Reward
from runner.scoring.arguments import check, keywords
from runner.scoring.rewards import Rewards

Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a reward plugin into the user's folder."""

    def put(name: str, text: str) -> None:
        file = tmp_path / "plugins" / "rewards" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    return put


def score(folder: Path, texts: list[str], max_failed: float = 0.5, given: Any = None, **specs: Reward) -> Any:
    """Scores, tallies and the function that sums."""
    with Rewards(specs, [folder], max_failed) as rewards:
        return rewards.score(texts, given or {}), rewards.tallies, rewards.total


def test_columns_parameters_and_reserved_words_arrive(tmp_path: Path, write: Write) -> None:
    """By the signature: needed columns, parameters from YAML, every column through **columns."""
    write(
        "told",
        "def told(completions, *, size, finish_reason, weight: float = 1.0, **columns):\n"
        "    assert sorted(columns) == ['other', 'prompts'], columns\n"
        "    assert finish_reason[0] == 'stop'\n"
        "    return [weight * (len(c) + s) for c, s in zip(completions, size, strict=True)]\n",
    )
    rows = [{"size": 1, "other": "x"}, {"size": 2}, {"other": "y"}]
    given = keywords(rows, finish_reason=["stop"] * 3, prompts=["p"] * 3)
    spec = Reward(weight=2.0, params={"weight": 10.0})
    scores, tallies, total = score(tmp_path, ["a", "bb", "c"], given=given, told=spec)
    assert scores == {"told": [20.0, 40.0, None]}  # the third row lacks a needed column: no score
    assert tallies["told"].asked == 2 and tallies["told"].failed == 0
    assert total(scores) == [40.0, 80.0, None]


def test_async_rewards_run_beside_each_other(tmp_path: Path, write: Write) -> None:
    """Two that wait for half a second each take less than one second together."""
    body = (
        "import asyncio\nasync def {0}(completions):\n    await asyncio.sleep(0.5)\n    return [1] * len(completions)\n"
    )
    write("one", body.format("one"))
    write("two", body.format("two"))
    with Rewards({"one": Reward(), "two": Reward()}, [tmp_path]) as rewards:
        rewards.score(["a"], {})
        start = time.monotonic()
        assert rewards.score(["a", "b"], {}) == {"one": [1.0, 1.0], "two": [1.0, 1.0]}
        assert time.monotonic() - start < 0.95


@pytest.mark.parametrize("wrong", ["raise ValueError()", "import os; os._exit(3)", "import time; time.sleep(60)"])
def test_a_failure_costs_one_score_only(
    tmp_path: Path, write: Write, capfd: pytest.CaptureFixture[str], wrong: str
) -> None:
    """An exception, a crash, a time-out on one of five completions: None for it, scores for the others, told once."""
    write(
        "frail",
        f"def frail(completions):\n    if any(c == 'bad' for c in completions):\n        {wrong}\n"
        "    return [float(len(c)) for c in completions]\n",
    )
    scores, tallies, _ = score(tmp_path, ["a", "bb", "bad", "cccc", "d"], frail=Reward(time_limit=0.5))
    assert scores == {"frail": [1.0, 2.0, None, 4.0, 1.0]}
    assert tallies["frail"].failed == 1 and tallies["frail"].first
    assert capfd.readouterr().out.count("reward frail failed") == 1


def test_too_many_failures_end_the_run(tmp_path: Path, write: Write) -> None:
    """More than the share allowed: one sentence with the reward's name and the first failure."""
    write("frail", "def frail(completions):\n    raise KeyError('gold')\n")
    with pytest.raises(StageError, match=r"reward frail: failed on 3 of 20 completions, more than 10%.*Error: 'gold'"):
        score(tmp_path, ["x"] * 20, 0.1, frail=Reward())


@pytest.mark.parametrize(
    ("returned", "sentence"),
    [
        ("[1.0]", "reward odd: returned 1 scores for 2 completions"),
        ("[1.0, float('nan')]", "reward odd: returned nan as a score"),
        ("[1.0, 'good']", "reward odd: returned 'good' as a score"),
        ("[1.0, [2]]", r"reward odd: returned \[2\] as a score"),
        ("None", "reward odd: returned None instead of a list"),
        ("0.5", "reward odd: returned 0.5 instead of a list"),
    ],
)
def test_what_is_no_list_of_scores_is_refused(tmp_path: Path, write: Write, returned: str, sentence: str) -> None:
    """One sentence that names the reward."""
    write("odd", f"def odd(completions):\n    return {returned}\n")
    with pytest.raises(PluginError, match=sentence):
        score(tmp_path, ["a", "b"], odd=Reward())


def test_numbers_of_other_kinds_are_scores(tmp_path: Path, write: Write) -> None:
    """Booleans, integers, numpy and None."""
    write("kinds", "import numpy\ndef kinds(completions):\n    return [True, 2, None, numpy.float32(0.5)]\n")
    assert score(tmp_path, list("abcd"), kinds=Reward())[0] == {"kinds": [1.0, 2.0, None, 0.5]}


@pytest.mark.parametrize(
    ("text", "specs", "columns", "sentence"),
    [
        ("def mine(completions, *, gold): ...", {"mine": Reward()}, ["golf"], r"needs the column 'gold'.*mean golf"),
        ("def mine(completions, *, limit=1): ...", {"mine": Reward(params={"limt": 2})}, None, r"limt.*mean limit"),
        ("def mine(completions, *, limit=1): ...", {"mine": Reward(params={"limit": "x"})}, None, r"its default 1"),
        ("def mine(completions): ...", {"mien": Reward()}, None, r"no reward named 'mien'. Did you mean mine"),
        ("def mine(completions:", {"mine": Reward()}, None, r"mine.py:1: is not Python"),
        ("def other(completions): ...", {"mine": Reward()}, None, r"no function named mine"),
    ],
)  # fmt: skip
def test_mistakes_are_told_when_planning(
    tmp_path: Path, write: Write, text: str, specs: Any, columns: Any, sentence: str
) -> None:
    """Without importing the plugin."""
    write("mine", text + "\n")
    with pytest.raises(RunnerError, match=sentence):
        check(specs, [tmp_path], "reward", columns)


def test_a_column_that_no_row_has_is_told(tmp_path: Path, write: Write) -> None:
    """While running too, with the nearest column."""
    write("mine", "def mine(completions, *, gold):\n    return [1.0]\n")
    with pytest.raises(PluginError, match=r"reward mine: needs the column 'gold', which no row has. .* mean golf\?"):
        score(tmp_path, ["a"], given={"golf": ["x"]}, mine=Reward())


def test_a_plugin_that_cannot_be_imported(tmp_path: Path, write: Write) -> None:
    """Its file and the reason."""
    write("mine", "import no_such_module\ndef mine(completions): ...\n")
    with pytest.raises(PluginError, match=r"mine.py: cannot be imported: ModuleNotFoundError"):
        score(tmp_path, ["a"], mine=Reward())


def test_processes_end_with_the_block(tmp_path: Path, write: Write) -> None:
    """Nothing is left behind."""
    write("mine", "import os\ndef mine(completions):\n    return [float(os.getpid())]\n")
    scores, _, _ = score(tmp_path, ["a"], mine=Reward())
    assert not Path(f"/proc/{int(scores['mine'][0])}").exists()
