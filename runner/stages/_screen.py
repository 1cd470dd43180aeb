"""The terminal of a chat: a prompt with history, pieces of an answer as they come, thoughts dimmed, notes beside them.

When the input is a pipe or a file only the answers are printed, each with a line's end after it.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import TextIO

DIM, PLAIN = "\x1b[2m", "\x1b[0m"


class Screen:
    """Reads from `source`, writes answers to `out` and complaints to `errors`."""

    def __init__(self, source: TextIO, out: TextIO, errors: TextIO) -> None:
        self.source, self.out, self.errors = source, out, errors
        self.live = source.isatty()
        self.colour = self.live and out.isatty() and "NO_COLOR" not in os.environ
        if self.live:
            with contextlib.suppress(ImportError):
                import readline  # noqa: F401 - gives input() its history and arrow keys

    def read(self, prompt: str) -> str | None:
        """A line of the person's, None at the end of the input."""
        if not self.live:
            line = self.source.readline()
            return line.rstrip("\n") if line else None
        while True:
            try:
                return input(prompt)
            except EOFError:
                self._write("\n")
                return None
            except KeyboardInterrupt:
                self._write("\n")
                self.note("Ctrl-D or exit leaves.")

    @contextlib.contextmanager
    def answering(self) -> Iterator[Callable[[], bool]]:
        """While an answer comes Ctrl-C only asks to stop it; yields a function that tells whether it was pressed."""
        self._said = ""
        pressed = threading.Event()
        main = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGINT, lambda *_: pressed.set()) if main and self.live else None
        try:
            yield pressed.is_set
        finally:
            if before is not None:
                signal.signal(signal.SIGINT, before)
            if self._said:
                self._write((PLAIN if self.colour else "") + ("" if self._said.endswith("\n") else "\n"))

    def show(self, piece: str) -> None:
        """A piece of the answer."""
        shown, self._said = len(self._said), self._said + piece
        thought = max(0, _thought(self._said) - shown) if self.colour else 0
        self._write((f"{DIM}{piece[:thought]}{PLAIN}" if thought else "") + piece[thought:])

    def note(self, text: str) -> None:
        """Something beside the conversation; nobody reads it in a pipe."""
        if self.live:
            self._write(f"{DIM}{text}{PLAIN}\n" if self.colour else text + "\n")

    def complain(self, text: str) -> None:
        """What went wrong, in a pipe too."""
        print(text, file=self.errors, flush=True)

    def _write(self, text: str) -> None:
        self.out.write(text)
        self.out.flush()


def _thought(said: str) -> int:
    """How many characters of an answer belong to its thought."""
    if not said.lstrip().startswith("<think>"):
        return 0
    head, mark, _ = said.partition("</think>")
    return len(head) + len(mark)
