"""Scores completions with all rewards of a recipe at once, each in its own process. A reward that fails on a completion
gives it no score: never 0 by accident. Failures are counted, the first one is shown, and too many of them end the run.
"""

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from runner.core import registry
from runner.core.errors import StageError
from runner.core.specs import Reward
from runner.scoring.arguments import RESERVED, arguments, scorable
from runner.scoring.process import Failed, RewardProcess, TooSlow

MAX_FAILED = 0.1  # share of completions on which a reward may fail before the run ends
RECENT = 300  # completions over which that share is taken, rounded up to whole calls
FEW_SLOW = 3  # completions alone too slow in a call, from which on the halves of what is slow are not tried any more

Scores = dict[str, list[float | None]]


@dataclass
class Tally:
    """How a reward has fared. first: what its first failure said. slow: calls of several completions that took longer
    than they may. lacking: completions without a column that it needs. calls: the last ones, asked and failed.
    """

    asked: int = 0
    failed: int = 0
    first: str = ""
    slow: int = 0
    lacking: int = 0
    calls: deque[tuple[int, int]] = field(default_factory=deque)

    def ask(self, count: int) -> None:
        """Begin a call with so many completions."""
        self.asked += count
        self.calls.append((count, 0))
        while sum(asked for asked, _ in self.calls) - self.calls[0][0] >= RECENT:
            self.calls.popleft()

    def fail(self) -> None:
        """Count a completion of the last call."""
        self.failed += 1
        asked, failed = self.calls.pop()
        self.calls.append((asked, failed + 1))

    def recent(self) -> tuple[int, int]:
        """Of the last calls, how many completions were asked and how many failed: late failures must show too."""
        return sum(asked for asked, _ in self.calls), sum(failed for _, failed in self.calls)


@dataclass
class Rewards:
    """The rewards of a recipe, ready to be called. Use as a context manager: it ends their processes.

    max_failed: share of the last completions on which a reward may fail, of `few` at least: a training begins with few
    of them on each device, and again after each stop. columns: that the data has, where a call gets a part of it.
    """

    specs: Mapping[str, Reward]
    places: Sequence[Path] = ()
    max_failed: float = MAX_FAILED
    few: int = 0
    columns: Collection[str] = ()
    tallies: dict[str, Tally] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._signatures = {name: registry.signature("rewards", name, self.places) for name in self.specs}
        self._processes = {
            name: RewardProcess(name, self.places, reward.time_limit) for name, reward in self.specs.items()
        }
        self.tallies = {name: Tally() for name in self.specs}
        self._lost: set[int] = set()  # completions of the last call on which a reward failed
        self._slow = dict.fromkeys(self.specs, 0)  # of the last call, those that alone took longer than they may

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes."""
        for process in self._processes.values():
            process.close()

    def score(
        self, completions: Sequence[str], given: Mapping[str, Sequence[Any]],
        waiting: Callable[[], None] = lambda: None,
    ) -> Scores:  # fmt: skip
        """The scores of each reward, None where there is none.

        Args:
            completions: whole answers. given: columns and reserved words, one value a completion (see `keywords`).
            waiting: called again and again while a reward is at work; it may raise, as where the user asked to stop.

        Raises:
            PluginError: a needed column that no row has, or a result that is no list of scores.
            StageError: a reward that fails on more than `max_failed` of the last completions.
        """
        self._lost, self._slow = set(), dict.fromkeys(self.specs, 0)
        rows = {
            name: scorable(wanted, given, len(completions), self.columns) for name, wanted in self._signatures.items()
        }
        for name, asked in rows.items():  # all at work before the first is waited for
            self._tell_lacking(name, len(completions) - len(asked), len(completions))
            self.tallies[name].ask(len(asked))
            self._send(name, completions, given, asked, waiting)
        return {name: self._collect(name, completions, given, asked, waiting) for name, asked in rows.items()}

    def total(self, scores: Scores) -> list[float | None]:
        """The weighted sum of each completion's scores in the last call. None where it has none at all, and where a
        reward failed: what the others say alone would be as if that reward had said 0.
        """
        sums: list[float | None] = []
        for place, row in enumerate(zip(*scores.values(), strict=True)):
            parts = [self.specs[n].weight * value for n, value in zip(scores, row, strict=True) if value is not None]
            sums.append(sum(parts) if parts and place not in self._lost else None)
        return sums

    def _send(
        self, name: str, completions: Sequence[str], given: Mapping[str, Sequence[Any]], rows: list[int],
        waiting: Callable[[], None],
    ) -> None:  # fmt: skip
        if rows:
            keywords = arguments(self._signatures[name], given, rows, self.specs[name].params)
            self._processes[name].send([completions[row] for row in rows], keywords, waiting)

    def _collect(
        self, name: str, completions: Sequence[str], given: Mapping[str, Sequence[Any]], rows: list[int],
        waiting: Callable[[], None],
    ) -> list[float | None]:  # fmt: skip
        """Wait for the call that was sent; where it failed, find the completions that it fails on by halves. Each that
        is too slow costs the whole time limit: after a few of them, all of what is slow have failed.
        """
        scores: list[float | None] = [None] * len(completions)
        if not rows:
            return scores
        halves: list[list[int]] = []
        try:
            for row, value in zip(rows, self._processes[name].receive(waiting), strict=True):
                if isinstance(value, Failed):
                    self._lose(name, row, value)
                else:
                    scores[row] = value
        except Failed as failure:
            slow = isinstance(failure, TooSlow)
            self._slow[name] += slow and len(rows) == 1
            if len(rows) == 1 or (slow and self._slow[name] >= FEW_SLOW):
                for row in rows:
                    self._lose(name, row, failure)
            else:
                self._tell_slow(name, failure, len(rows))
                halves = [rows[: len(rows) // 2], rows[len(rows) // 2 :]]
        for half in halves:
            self._send(name, completions, given, half, waiting)
            part = self._collect(name, completions, given, half, waiting)
            scores = [new if old is None else old for old, new in zip(scores, part, strict=True)]
        return scores

    def _tell_lacking(self, name: str, lacking: int, count: int) -> None:
        if lacking and not self.tallies[name].lacking:
            columns = " and ".join(repr(one) for one in self._signatures[name].columns if one not in RESERVED)
            print(
                f"reward {name}: {lacking} of {count} answers get no score from it, since their rows lack {columns}",
                flush=True,
            )
        self.tallies[name].lacking += lacking

    def _tell_slow(self, name: str, failure: Failed, count: int) -> None:
        if not isinstance(failure, TooSlow):
            return
        self.tallies[name].slow += 1
        if self.tallies[name].slow == 1:
            print(
                f"reward {name}: a call with {count} completions {failure}, so their halves are tried. "
                f"reward.{name}.time_limit says how long a call may take.",
                flush=True,
            )

    def _lose(self, name: str, row: int, failure: Failed) -> None:
        self._lost.add(row)
        tally = self.tallies[name]
        tally.fail()
        if tally.failed == 1:
            tally.first = str(failure)
            print(f"reward {name} failed on a completion, which gets no score:\n{failure}", flush=True)
        asked, failed = tally.recent()
        if failed > self.max_failed * max(asked, self.few):
            raise StageError(
                f"reward {name}: failed on {failed} of the last {asked} completions, more than {self.max_failed:.0%}. "
                f"Its first failure: {failure_line(tally.first)}."
            )


def failure_line(text: str) -> str:
    """The last line of a traceback."""
    return text.strip().splitlines()[-1].rstrip(".") if text.strip() else ""
