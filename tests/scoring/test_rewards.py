"""Rewards that go wrong in every way: the score is None, never 0, and what happened is told."""

import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import pytest

from runner.core.errors import PluginError, RunnerError, StageError
from runner.core.specs import Reward
from runner.scoring.arguments import check, columns_of, keywords
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


@pytest.mark.parametrize(
    "wrong",
    [
        "raise ValueError()", "import os; os._exit(3)", "import time; time.sleep(60)", "raise KeyboardInterrupt()",
        "return (1 / 0 for _ in completions)", "import os; os.abort()",
        "import os; os.fork() or time.sleep(9); os.abort()",  # what it started holds the pipe open
    ],
)  # fmt: skip
def test_a_failure_costs_one_score_only(
    tmp_path: Path, write: Write, capfd: pytest.CaptureFixture[str], wrong: str
) -> None:
    """An exception, a crash, a time-out on one of five completions: None for it, scores for the others, told once."""
    write(
        "frail",
        f"import time\ndef frail(completions):\n    if any(c == 'bad' for c in completions):\n        {wrong}\n"
        "    return [float(len(c)) for c in completions]\n",
    )
    scores, tallies, _ = score(tmp_path, ["a", "bb", "bad", "cccc", "d"], frail=Reward(time_limit=0.5))
    assert scores == {"frail": [1.0, 2.0, None, 4.0, 1.0]}
    assert tallies["frail"].failed == 1 and tallies["frail"].first
    assert capfd.readouterr().out.count("reward frail failed") == 1


def test_where_one_reward_fails_the_others_make_no_sum(tmp_path: Path, write: Write) -> None:
    """It would be as if the one that failed had said 0; where it chose to say nothing they do."""
    write("one", "def one(completions):\n    return [None if c == 'none' else 1 / (c != 'bad') for c in completions]\n")
    write("two", "def two(completions):\n    return [0.25 for c in completions]\n")
    scores, _, total = score(tmp_path, ["good", "bad", "none"], one=Reward(weight=2.0), two=Reward())
    assert scores == {"one": [1.0, None, None], "two": [0.25, 0.25, 0.25]}
    assert total(scores) == [2.25, None, 0.25]


def test_rows_that_lack_a_column_are_told_once(tmp_path: Path, write: Write, capfd: pytest.CaptureFixture[str]) -> None:
    """They have no score, which nothing but a count of the metrics told."""
    write("mine", "def mine(completions, *, gold, finish_reason):\n    return [1.0] * len(completions)\n")
    given = keywords([{"gold": 1}, {}, {"gold": None}], finish_reason=["stop"] * 3)
    with Rewards({"mine": Reward()}, [tmp_path]) as rewards:
        for _ in range(2):
            assert rewards.score(list("abc"), given) == {"mine": [1.0, None, None]}
        assert rewards.tallies["mine"].lacking == 4
    told = "reward mine: 2 of 3 answers get no score from it, since their rows lack 'gold'\n"
    assert capfd.readouterr().out == told


def test_a_traceback_is_told_once(tmp_path: Path, write: Write, capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever is raised, and wherever."""
    write("frail", "def frail(completions):\n    raise KeyboardInterrupt('key')\n    yield\n")
    score(tmp_path, ["x"] * 4, 1.0, frail=Reward())
    told = capfd.readouterr()
    assert (told.out + told.err).count("Traceback") == 1


def test_a_function_that_forks_answers_once(tmp_path: Path, write: Write) -> None:
    """The second call got what the forked process had to say to the first."""
    write("forks", "import os\ndef forks(completions):\n    os.fork()\n    return [len(c) for c in completions]\n")
    with Rewards({"forks": Reward()}, [tmp_path]) as rewards:
        assert [rewards.score([text], {})["forks"] for text in ("a", "bb", "ccc")] == [[1.0], [2.0], [3.0]]


def test_a_reward_may_start_processes_which_end_with_it(tmp_path: Path, write: Write) -> None:
    """A pool; and what a call that took too long had started."""
    write(
        "pool",
        "import multiprocessing, os, time\ndef one(text):\n    return len(text)\n"
        "def pool(completions):\n"
        "    if completions == ['slow']:\n"
        "        if os.fork():\n            time.sleep(60)\n"
        "        open(os.environ['TOLD'], 'w').write(str(os.getpid()))\n        time.sleep(60)\n"
        "    with multiprocessing.get_context('fork').Pool(2) as workers:\n"
        "        return workers.map(one, completions)\n",
    )
    with pytest.MonkeyPatch.context() as patch, Rewards({"pool": Reward(time_limit=1.5)}, [tmp_path], 1.0) as rewards:
        patch.setenv("TOLD", str(tmp_path / "pid"))
        assert rewards.score(["a", "bb"], {}) == {"pool": [1.0, 2.0]}
        assert rewards.score(["slow"], {}) == {"pool": [None]}
    assert within(3, lambda: gone((tmp_path / "pid").read_text()))


def test_a_call_that_waits_can_be_left(tmp_path: Path, write: Write) -> None:
    """Ctrl-C was heard only after all time limits; the next call gets its own answer."""
    write("slow", "import time\ndef slow(completions):\n    time.sleep(int(completions[0]))\n    return [1.0]\n")

    def stop() -> None:
        raise InterruptedError

    with Rewards({"slow": Reward()}, [tmp_path]) as rewards:
        rewards.score(["0"], {})
        start = time.monotonic()
        with pytest.raises(InterruptedError):
            rewards.score(["50"], {}, stop)
        assert time.monotonic() - start < 3
        assert rewards.score(["0"], {}) == {"slow": [1.0]}


def test_a_slow_call_is_told_before_its_halves_are_tried(
    tmp_path: Path, write: Write, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each half is in time, so nothing fails: but each rollout would wait in silence."""
    write(
        "slow", "import time\ndef slow(completions):\n    time.sleep(9 * (len(completions) > 2))\n    return [1, 1]\n"
    )
    with Rewards({"slow": Reward(time_limit=1)}, [tmp_path]) as rewards:
        assert rewards.score(list("abcd"), {}) == {"slow": [1.0] * 4}
        assert rewards.score(list("abcd"), {}) == {"slow": [1.0] * 4}
    told = "reward slow: a call with 4 completions took longer than 1 s, so their halves are tried. reward.slow.time_l"
    assert capfd.readouterr().out.count(told) == 1


def test_a_process_ends_with_its_parent_whatever_it_is_at(tmp_path: Path, write: Write) -> None:
    """Killed in the middle of an endless call, a run left a process behind that was busy for ever."""
    write(
        "endless",
        f"import os\ndef endless(completions):\n    open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        "    while True: pass\n",
    )
    text = (
        "from pathlib import Path\nfrom runner.core.specs import Reward\nfrom runner.scoring.rewards import Rewards\n"
        "if __name__ == '__main__':\n"
        f"    Rewards({{'endless': Reward()}}, [Path({str(tmp_path)!r})]).score(['a'], {{}})\n"
    )
    (tmp_path / "main.py").write_text(text)
    parent = subprocess.Popen([sys.executable, tmp_path / "main.py"])
    file = tmp_path / "pid"
    assert within(30, lambda: file.is_file() and bool(file.read_text()))
    parent.kill()
    parent.wait()
    assert within(5, lambda: gone(file.read_text()))


def within(seconds: float, true: Callable[[], bool]) -> bool:
    """Whether it becomes true in time."""
    last = time.monotonic() + seconds
    while not true() and time.monotonic() < last:
        time.sleep(0.05)
    return true()


def gone(pid: str) -> bool:
    """Whether a process has ended, even if its parent has not looked yet."""
    file = Path("/proc", pid, "cmdline")
    return not file.is_file() or not file.read_bytes()


def test_too_many_failures_end_the_run(tmp_path: Path, write: Write) -> None:
    """More than the share allowed: one sentence with the reward's name and the first failure."""
    write("frail", "def frail(completions):\n    raise KeyError('gold')\n")
    told = r"reward frail: failed on 3 of the last 20 completions, more than 10%.*Error: 'gold'"
    with pytest.raises(StageError, match=told):
        score(tmp_path, ["x"] * 20, 0.1, frail=Reward())


def test_one_failure_among_the_first_few_does_not_end_a_training(tmp_path: Path, write: Write) -> None:
    """Of two answers a device one time-out was half of all, and the end; after each resume too."""
    write("frail", "def frail(completions):\n    return [1 / (c != 'bad') for c in completions]\n")
    with Rewards({"frail": Reward()}, [tmp_path], few=30) as rewards:
        for _ in range(3):
            assert rewards.score(["bad", "good"], {}) == {"frail": [None, 1.0]}
        with pytest.raises(StageError, match=r"failed on 4 of the last 8 completions, more than 10%"):
            rewards.score(["bad", "good"], {})


def test_a_reward_that_fails_late_is_not_hidden_by_what_was_well(tmp_path: Path, write: Write) -> None:
    """The share was taken over all completions of a training; what was long ago does not count against it either."""
    write("frail", "def frail(completions):\n    return [1.0 if c == 'good' else ValueError(c) for c in completions]\n")
    with Rewards({"frail": Reward()}, [tmp_path]) as rewards:
        rewards.score(["good"] * 5000, {})
        for _ in range(8):
            rewards.score(["bad", *["good"] * 49], {})
        with pytest.raises(StageError, match=r"failed on 31 of the last 300 completions, more than 10%"):
            rewards.score(["bad"] * 50, {})


def test_a_reward_that_hangs_is_not_asked_for_each_half(
    tmp_path: Path, write: Write, capfd: pytest.CaptureFixture[str]
) -> None:
    """64 answers took 127 time limits; after a few alone that were too slow, all of what is slow have failed."""
    write(
        "slow",
        "import time\ndef slow(completions):\n    open('calls', 'a').write('x')\n"
        "    time.sleep(9 * ('bad' in completions))\n    return [1.0] * len(completions)\n",
    )
    texts = ["bad"] * 8 + ["good"] * 8 + ["bad", "good"] * 8
    with pytest.MonkeyPatch.context() as patch, Rewards({"slow": Reward(time_limit=0.5)}, [tmp_path], 1.0) as rewards:
        patch.chdir(tmp_path)
        scores = rewards.score(texts, {})
        assert scores == {"slow": [None] * 8 + [1.0] * 8 + [None] * 16}
        assert rewards.total(scores) == scores["slow"] and rewards.tallies["slow"].failed == 24
    assert len((tmp_path / "calls").read_text()) == 13  # 32, 16, 8, 4, 2, 1, 1, 2, 1, 1, 4, 8, 16
    assert "took longer than 0.5 s" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("returned", "sentence"),
    [
        ("[1.0]", "reward odd: returned 1 scores for 2 completions"),
        ("[1.0, float('nan')]", "reward odd: returned nan as a score"),
        ("[1.0, float('-inf')]", "reward odd: returned -inf as a score"),
        ("[1.0, 1e308]", r"reward odd: returned 1e\+308 as a score"),
        ("[1.0, 'good']", "reward odd: returned 'good' as a score"),
        ("[1.0, [2]]", r"reward odd: returned \[2\] as a score"),
        ("None", "reward odd: returned None instead of a list"),
        ("0.5", "reward odd: returned 0.5 instead of a list"),
        ("'ab'", "reward odd: returned 'ab' instead of a list"),
        ("{0: 0.5, 1: 1.0}", r"reward odd: returned {0: 0.5, 1: 1.0} instead of a list"),
        ("{0.5, 1.0}", r"reward odd: returned {.*} instead of a list"),
        ("[1.0, 10**400]", r"reward odd: returned 10*\.\.\. as a score"),
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
        ("def mine(completions, gold): ...", {"mine": Reward()}, None, r"takes 'gold' by .*: write a \*"),
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
    with pytest.raises(PluginError, match=r"'gold', which no row has. Choices: other"):  # null in all of them
        score(tmp_path, ["a"], given={"gold": [None], "other": ["x"]}, mine=Reward())


def test_a_call_whose_rows_all_lack_a_column_that_others_have(tmp_path: Path, write: Write) -> None:
    """As the few of a rollout may: they have no score, and the training goes on."""
    write("mine", "def mine(completions, *, gold):\n    return [1.0] * len(completions)\n")
    with Rewards({"mine": Reward()}, [tmp_path], columns=columns_of([{"gold": 1}, {"other": 2}])) as rewards:
        assert rewards.score(["a", "b"], {"other": [1, 2]}) == {"mine": [None, None]}
        assert rewards.score(["a"], {"gold": [1]}) == {"mine": [1.0]} and rewards.tallies["mine"].lacking == 2
    assert columns_of([{"gold": None}]) == set()


def test_a_plugin_that_cannot_be_imported(tmp_path: Path, write: Write) -> None:
    """Its file and the reason."""
    write("mine", "import no_such_module\ndef mine(completions): ...\n")
    with pytest.raises(PluginError, match=r"mine.py: cannot be imported: ModuleNotFoundError"):
        score(tmp_path, ["a"], mine=Reward())


def test_a_process_that_cannot_be_started_is_told(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what the system says; to end what was never started hid it behind an AttributeError."""

    def start(self: Any) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    write("mine", "def mine(completions):\n    return [1.0]\n")
    monkeypatch.setattr(SpawnProcess, "start", start)
    with pytest.raises(PluginError, match=r"reward mine: cannot be started: .*Resource temporarily unavailable\.$"):
        score(tmp_path, ["a"], mine=Reward())


@pytest.mark.parametrize("quoted", ["'x' * 10**6", "'x\\n' * 10**6"])
def test_a_failure_that_quotes_much_is_told_in_brief(tmp_path: Path, write: Write, quoted: str) -> None:
    write("wide", f"def wide(completions):\n    raise ValueError({quoted})\n")
    _, tallies, _ = score(tmp_path, ["a"], 1.0, wide=Reward())
    assert "ValueError: x" in tallies["wide"].first and len(tallies["wide"].first) < 5000


def test_processes_end_with_the_block(tmp_path: Path, write: Write) -> None:
    """Nothing is left behind."""
    write("mine", "import os\ndef mine(completions):\n    return [float(os.getpid())]\n")
    scores, _, _ = score(tmp_path, ["a"], mine=Reward())
    assert not Path(f"/proc/{int(scores['mine'][0])}").exists()


def test_a_reward_finds_others_where_the_run_looks(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user's own accuracy in a folder that is not the working directory, when imported and when called."""
    write("accuracy", "def accuracy(completions, *, solution): return [0.25] * len(completions)\n")
    write(
        "twice",
        "from runner.api import reward\nEARLY = reward('accuracy')\n"
        "def twice(completions, *, solution):\n"
        "    both = [f(completions, solution=solution) for f in (EARLY, reward('accuracy'))]\n"
        "    return [a + b for a, b in zip(*both)]\n",
    )
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    scores, _, _ = score(tmp_path, ["4"], given=keywords([{"solution": "4"}]), twice=Reward())
    assert scores == {"twice": [0.5]}


def test_an_exception_instead_of_a_score_is_a_failure(tmp_path: Path, write: Write) -> None:
    """Counted and told as if it had been raised on this completion, and the others are not asked again."""
    write(
        "frail",
        "calls = []\ndef frail(completions):\n    calls.append(1)\n"
        "    return [ValueError('odd') if c == 'bad' else float(len(calls)) for c in completions]\n",
    )
    scores, tallies, total = score(tmp_path, ["a", "bad", "c"], frail=Reward())
    assert scores == {"frail": [1.0, None, 1.0]} and total(scores) == [1.0, None, 1.0]
    assert tallies["frail"].failed == 1 and tallies["frail"].first == "ValueError: odd"
