"""What the first of several nodes tells the others while it works, by a small file in the run's folder that they share.

It is written anew every few seconds, so that a first node that was killed or never began is told from one that is busy
with stages of its own; nobody compares clocks of two machines. Another node takes part in a stage only while the first
one is at it, never by an order that an earlier try left behind, and ends with a sentence when the first one has ended.
"""

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from runner.core.artifact import write_whole
from runner.core.errors import Interrupted, RunnerError, StageError

FILE = ".first_node.json"
BEAT = 5.0  # seconds between two signs of life
LOOK = 1.0  # seconds between two looks at them
PATIENCE = 600  # seconds without one after which the first node counts as gone, or less by parallelism.timeout
RECENT = 60.0  # seconds: one that failed so shortly before this node began was most likely of the same try
GRACE = 60.0  # seconds that this node's part of a stage has to end once the first node has left the stage


class First:
    """On the first node. at: the stage that it works at. done: those that are behind it."""

    def __init__(self, file: Path) -> None:
        self._file, self._lock, self._over = file, threading.Lock(), threading.Event()
        self._word: dict[str, Any] = {"try": os.urandom(8).hex(), "beat": 0, "at": None, "done": [], "ended": None}

    def at(self, stage: str) -> None:
        """Its order is written; other nodes may begin."""
        self._say(at=stage)

    def leave(self, stage: str) -> None:
        """It is done, or was done before."""
        self._say(at=None, done=[*self._word["done"], stage])

    def end(self, code: int, sentence: str) -> None:
        """The last word."""
        self._over.set()
        self._say(at=None, ended={"code": code, "said": sentence})

    def beat(self) -> None:
        """Until the end."""
        while not self._over.wait(BEAT):
            self._say()

    def _say(self, **more: Any) -> None:
        with self._lock, contextlib.suppress(OSError):  # what the disk refuses, the run itself will tell
            self._word |= {"beat": self._word["beat"] + 1, **more}
            write_whole(self._file, json.dumps(self._word) + "\n")


class Alone(First):
    """Where there is no other node to tell."""

    def _say(self, **more: Any) -> None:
        return


@contextlib.contextmanager
def first(run: Path, nodes: int) -> Iterator[First]:
    """While it lasts, the other nodes know that the first one works, and in the end what became of it."""
    if nodes == 1:
        yield Alone(run)
        return
    told = First(run / FILE)
    threading.Thread(target=told.beat, daemon=True).start()
    try:
        yield told
    except RunnerError as error:
        told.end(error.exit_code, str(error))
        raise
    except BaseException as error:
        told.end(1, type(error).__name__)
        raise
    told.end(0, "")


class Other:
    """On another node than the first, whose words it reads.

    patience: seconds without a sign of life. lock: a file of this node, just written, by whose time on the shared disk
    older words are dated.
    """

    def __init__(self, run: Path, patience: float, lock: Path) -> None:
        self._file, self._patience = run / FILE, min(patience, PATIENCE)
        self._last, self._heard, self._current = self._read(), time.monotonic(), False
        old = self._last.get("ended")
        if old and old["code"] and lock.stat().st_mtime - self._file.stat().st_mtime < RECENT:
            self._patience = min(self._patience, RECENT)

    def ordered(self, stage: str) -> bool:
        """Wait until the first node is at a stage; false where it has left it behind.

        Raises:
            StageError: it has ended, or gives no sign of life. Interrupted: it was stopped.
        """
        while True:
            word = self._word()
            if self._current and word["at"] == stage:
                return True
            if self._current and stage in word["done"]:
                return False
            if (why := self._gone(word)) is not None:
                raise _error(stage, word, why)
            time.sleep(LOOK)

    @contextlib.contextmanager
    def watching(self, stage: str, end: Callable[[], None]) -> Iterator[None]:
        """While this node takes part in a stage: it is ended soon after the first node has left it.

        Raises:
            StageError: that was so. Interrupted: the first node was stopped.
        """
        over, ended = threading.Event(), list[RunnerError]()

        def watch() -> None:
            left = None
            while not over.wait(LOOK):
                word = self._word()
                why = self._gone(word)
                if why is None and word["at"] == stage:
                    continue
                left = left or time.monotonic()
                if time.monotonic() - left > GRACE:
                    ended.append(_error(stage, word, why or "the first node has left this stage"))
                    end()
                    return

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
        if ended:
            raise ended[0]

    def _word(self) -> dict[str, Any]:
        found = self._read()
        if found and found != self._last:
            self._last, self._heard, self._current = found, time.monotonic(), True
        return self._last

    def _read(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self._file.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return {}

    def _gone(self, word: dict[str, Any]) -> str | None:
        """Why nothing more is to be awaited."""
        ended = word.get("ended")
        if self._current and ended:
            return f"the first node ended{': ' if ended['said'] else ' without it'}{ended['said']}".rstrip(".")
        waited = time.monotonic() - self._heard
        if waited < self._patience:
            return None
        before = f"; at last it had ended: {ended['said']}".rstrip(".") if ended and ended["said"] else ""
        return f"the first node gave no sign of life for {waited:.0f} s{before}. Does the same command run there?"


def _error(stage: str, word: dict[str, Any], why: str) -> RunnerError:
    stopped = (word.get("ended") or {}).get("code") == Interrupted.exit_code
    sentence = f"{stage}: {why}" + ("" if why.endswith("?") else ".")
    return Interrupted(sentence) if stopped else StageError(sentence)
