"""A reward function in a process of its own: what it does there, a crash or an endless loop too, cannot hurt the run.

The process is started at the first call and anew after a crash or a time-out. It runs the function in its main thread,
so that a plugin's own alarms work, and ends when its parent does.
"""

import asyncio
import contextlib
import inspect
import math
import signal
import traceback
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from runner.core import registry
from runner.core.errors import PluginError, RunnerError

START = 120.0  # seconds that importing a plugin may take


class Failed(Exception):
    """A call that gave no scores: an exception, a crash or a time-out. The text is what to show."""


class RewardProcess:
    """One reward function, called across a pipe. Calls may be sent to several processes before one is waited for."""

    def __init__(self, name: str, places: Sequence[Path], time_limit: float) -> None:
        self.name, self.places, self.time_limit = name, tuple(places), time_limit
        self._process: Any = None
        self._pipe: Connection | None = None

    def send(self, completions: Sequence[str], keywords: dict[str, Any]) -> None:
        """Start a call."""
        if self._process is None:
            self._start()
        assert self._pipe is not None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # receive() tells what became of the process
            self._pipe.send((list(completions), keywords))

    def receive(self) -> list[float | None]:
        """The scores of the call that was sent.

        Raises:
            Failed: the function raised, crashed or took too long. PluginError: it returned something else than scores.
        """
        kind, value = self._answer(self.time_limit)
        if kind == "scores":
            return list(value)
        if kind == "wrong":
            raise PluginError(f"reward {self.name}: {value}")
        raise Failed(value)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None

    def _start(self) -> None:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self.name, self.places), daemon=True)
        self._process.start()
        theirs.close()
        kind, value = self._answer(START)
        if kind != "ready":
            self.close()
            raise PluginError(value if kind == "wrong" else f"reward {self.name}: cannot be started: {value}")

    def _answer(self, seconds: float) -> tuple[str, Any]:
        assert self._pipe is not None and self._process is not None
        try:
            if self._pipe.poll(seconds):
                kind, value = self._pipe.recv()
                return str(kind), value
        except (EOFError, ConnectionResetError):
            self._process.join()
            code = self._process.exitcode
            self.close()
            return "failed", f"its process ended (exit code {code})"
        self.close()
        return "failed", f"took longer than {seconds:g} s"


def _serve(pipe: Connection, name: str, places: Sequence[Path]) -> None:
    """The process: answer calls until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
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
        try:
            made = function(completions, **keywords)
            if inspect.isawaitable(made):
                made = asyncio.run(_awaited(made))
        except (Exception, SystemExit):  # noqa: BLE001 - whatever a plugin raises is told to the parent
            pipe.send(("failed", traceback.format_exc().rstrip()))
            continue
        pipe.send(_checked(made, len(completions)))


async def _awaited(made: Any) -> Any:
    return await made


def _checked(made: Any, count: int) -> tuple[str, Any]:
    """The scores as plain numbers, or the sentence about what is wrong with them."""
    fix = "Return one number, or None for no score, a completion."
    try:
        values = list(made)
    except TypeError:
        return "wrong", f"returned {_short(made)} instead of a list. {fix}"
    if len(values) != count:
        return "wrong", f"returned {len(values)} scores for {count} completions. {fix}"
    scores: list[float | None] = []
    for value in values:
        if value is None:
            scores.append(None)
            continue
        try:
            number = math.nan if isinstance(value, str | bytes) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            return "wrong", f"returned {_short(value)} as a score. {fix}"
        scores.append(number)
    return "scores", scores


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
