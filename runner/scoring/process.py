"""A reward function in a process of its own: what it does there, a crash or an endless loop too, cannot hurt the run.

The process is started at the first call and anew after a crash or a time-out. It runs the function in its main thread,
so that a plugin's own alarms work, and ends when its parent does, whatever it is at. It may start processes of its own;
they end with it. Where memory runs out, the system is asked to end it rather than the training.
"""

import asyncio
import contextlib
import inspect
import math
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from multiprocessing import current_process, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from runner.core import registry
from runner.core.errors import ConfigError, PluginError, RunnerError
from runner.core.orphans import end_with_parent

START = 120.0  # seconds that importing a plugin may take
LONGEST, WIDEST = 60, 500  # lines of a traceback that are told, and characters of each
LARGEST = 1e30  # a score whose square, in a sum, is a number still
LOOK = 0.2  # seconds between looks whether the process still lives and whether the user asked to stop


class Failed(Exception):
    """A call that gave no scores: an exception, a crash or a time-out. The text is what to show."""


class TooSlow(Failed):
    """A call that took longer than it may."""


class RewardProcess:
    """One reward function, called across a pipe. Calls may be sent to several processes before one is waited for."""

    def __init__(self, name: str, places: Sequence[Path], time_limit: float) -> None:
        self.name, self.places, self.time_limit = name, tuple(places), time_limit
        self._process: Any = None
        self._pipe: Connection | None = None

    def send(
        self, completions: Sequence[str], keywords: dict[str, Any], waiting: Callable[[], None] = lambda: None
    ) -> None:
        """Start a call. waiting: see `receive`."""
        if self._process is None:
            self._start(waiting)
        assert self._pipe is not None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # receive() tells what became of the process
            self._pipe.send((list(completions), keywords))

    def receive(self, waiting: Callable[[], None] = lambda: None) -> list[float | Failed | None]:
        """The scores of the call that was sent, and what it failed on.

        Args:
            waiting: called again and again meanwhile; what it raises ends the call, and the process.

        Raises:
            Failed: the function raised, crashed or took too long. PluginError: it returned something else than scores.
        """
        kind, value = self._answer(self.time_limit, waiting)
        if kind == "scores":
            return [Failed(score) if isinstance(score, str) else score for score in value]
        if kind == "wrong":
            raise PluginError(f"reward {self.name}: {value}")
        raise (TooSlow if kind == "slow" else Failed)(value)

    def close(self) -> None:
        """End the process and what it started."""
        if self._process is not None:
            started = _descendants(self._process.pid)
            self._process.kill()
            for pid in started:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.join()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None

    def _start(self, waiting: Callable[[], None]) -> None:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self.name, self.places), daemon=True)
        try:
            process.start()
        except OSError as error:  # no more processes, or no memory for one
            raise PluginError(f"reward {self.name}: cannot be started: {error}.") from None
        finally:
            theirs.close()
        self._process = process
        kind, value = self._answer(START, waiting)
        if kind != "ready":
            self.close()
            raise PluginError(value if kind == "wrong" else f"reward {self.name}: cannot be started: {value}")

    def _answer(self, seconds: float, waiting: Callable[[], None]) -> tuple[str, Any]:
        assert self._pipe is not None and self._process is not None
        last = time.monotonic() + seconds
        try:
            while (left := last - time.monotonic()) > 0:
                if self._pipe.poll(min(left, LOOK)):
                    kind, value = self._pipe.recv()
                    return str(kind), value
                if not self._process.is_alive() and not self._pipe.poll():  # what it started may hold the pipe open
                    raise EOFError
                waiting()
        except (EOFError, ConnectionResetError):
            self._process.join()
            code = self._process.exitcode
            self.close()
            return "failed", f"its process ended (exit code {code})"
        except BaseException:
            self.close()  # an answer that comes later would be taken for that to the next call
            raise
        self.close()
        return "slow", f"took longer than {seconds:g} s"


def _descendants(pid: int) -> list[int]:
    """The processes that a process has started, and theirs; none where the system has no /proc."""
    parents: dict[int, int] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(file.parent.name)] = int(file.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for one in found:  # grows meanwhile
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def _serve(pipe: Connection, name: str, places: Sequence[Path]) -> None:
    """The process: answer calls until the pipe closes."""
    _settle()
    own = os.getpid()
    registry.look_in(places)
    try:
        function = registry.load("rewards", name, places)
    except RunnerError as error:
        pipe.send(("wrong", str(error)))
        return
    pipe.send(("ready", None))
    while True:
        try:
            completions, keywords = pipe.recv()
        except (EOFError, ConnectionResetError):
            return
        answer = _called(function, completions, keywords)
        if os.getpid() != own:  # the function has forked: one of the two answers
            os._exit(0)
        pipe.send(answer)


def _settle() -> None:
    """Ctrl-C is the parent's to hear; the process ends with its parent, is the first to go, and may have children."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    current_process().daemon = False  # else multiprocessing refuses to start any
    end_with_parent()
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")


def _called(function: Callable[..., Any], completions: list[str], keywords: dict[str, Any]) -> tuple[str, Any]:
    count = len(completions)
    try:
        made = function(completions, **keywords)
        if inspect.isawaitable(made):
            made = asyncio.run(_awaited(made))
        return _checked(made, count)
    except ConfigError as error:  # about its parameters: no other answer will do
        return "wrong", str(error)
    except BaseException:  # noqa: BLE001 - whatever a plugin raises is told to the parent
        return "failed", _brief(traceback.format_exc())


async def _awaited(made: Any) -> Any:
    return await made


def _checked(made: Any, count: int) -> tuple[str, Any]:
    """The scores as plain numbers and failures as texts, or the sentence about what is wrong with them."""
    fix = "Return one number, or None for no score, a completion."
    if isinstance(made, str | bytes | Mapping | Set) or not isinstance(made, Iterable):
        return "wrong", f"returned {_short(made)} instead of a list. {fix}"
    values = list(made)
    if len(values) != count:
        return "wrong", f"returned {len(values)} scores for {count} completions. {fix}"
    scores: list[float | str | None] = []
    for value in values:
        if value is None or isinstance(value, Exception):
            scores.append(None if value is None else _brief("".join(traceback.format_exception(value))))
            continue
        try:
            number = math.nan if isinstance(value, str | bytes) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not abs(number) <= LARGEST:
            return "wrong", f"returned {_short(value)} as a score. {fix}"
        scores.append(number)
    return "scores", scores


def _short(value: Any) -> str:
    return _cut(repr(value), 60)


def _brief(text: str) -> str:
    """A traceback for people: whatever it quotes, such as an answer, is not told whole."""
    lines = [_cut(line, WIDEST) for line in text.rstrip().splitlines()]
    return "\n".join(lines if len(lines) <= LONGEST else [*lines[: LONGEST // 2], "...", *lines[-LONGEST // 2 :]])


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."
