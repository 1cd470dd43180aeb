"""The terminal of a chat: a prompt with history, pieces of an answer as they come, thoughts dimmed, notes beside them.

When the input is a pipe or a file only the answers are printed, each with a line's end after it.
"""

import contextlib
import io
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import TextIO

DIM, PLAIN = "\x1b[2m", "\x1b[0m"
LOOK = 0.2  # seconds after which a Ctrl-C is heard that came just before a line was waited for


class Screen:
    """Reads from `source`, writes answers to `out` and complaints to `errors`."""

    def __init__(self, source: TextIO, out: TextIO, errors: TextIO) -> None:
        self.source, self.out, self.errors = source, out, errors
        if isinstance(source, io.TextIOWrapper):
            source.reconfigure(errors="replace")  # bytes of another encoding: no tokenizer takes what stands for them
        self.live = source.isatty()
        self.complaints, self.gone = 0, False  # gone: who read the answers has closed the pipe
        self._look, self._asking, self._pressed = 0.0, False, threading.Event()
        self.colour = self.live and out.isatty() and "NO_COLOR" not in os.environ
        if self.live:
            with contextlib.suppress(ImportError):
                import readline  # noqa: F401 - gives input() its history and arrow keys

    def read(self, prompt: str, on: bool = True) -> str | None:
        """A line of the person's, None at the end of the input or when nobody reads the answers any more.

        Args:
            on: Ctrl-C asks for the line again; False: it raises KeyboardInterrupt.
        """
        if self.gone:
            return None
        if not self.live:
            line = self.source.readline()
            return line.rstrip("\n") if line else None
        while True:
            try:
                return self._input(prompt)
            except EOFError:
                self._write("\n")
                return None
            except KeyboardInterrupt:
                self._write("\n")
                if not on:
                    raise
                self.note("Ctrl-D or exit leaves.")

    def _input(self, prompt: str) -> str:
        self._asking = True
        try:
            if self._pressed.is_set():  # a moment before
                raise KeyboardInterrupt
            signal.setitimer(signal.ITIMER_REAL, self._look, self._look)
            return input(prompt)
        finally:
            self._asking = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            self._pressed.clear()

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """In this block Ctrl-C ends nothing but a line or an answer, whenever it is pressed.

        Readline looks at signals only where one wakes it, so an alarm does that again and again.
        """
        if not (self.live and threading.current_thread() is threading.main_thread()):
            yield
            return

        def heard(*_: object) -> None:
            self._pressed.set()
            if self._asking:
                raise KeyboardInterrupt

        before = [(signal.SIGINT, signal.signal(signal.SIGINT, heard))]
        before += [(signal.SIGALRM, signal.signal(signal.SIGALRM, lambda *_: None))]
        self._look = LOOK
        try:
            yield
        finally:
            self._look = 0.0
            for number, handler in before:
                signal.signal(number, handler)

    @contextlib.contextmanager
    def answering(self) -> Iterator[Callable[[], bool]]:
        """While an answer comes Ctrl-C only asks to stop it; yields a function that tells whether it was pressed."""
        self._said = ""
        try:
            yield self._pressed.is_set
        finally:
            self._pressed.clear()
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
        self.complaints += 1
        print(text, file=self.errors, flush=True)

    def _write(self, text: str) -> None:
        try:
            self.out.write(text)
            self.out.flush()
        except BrokenPipeError:  # `... | head`: what is left in the buffer goes nowhere, and the answer stops
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.out.fileno())
            self.gone = True
            self._pressed.set()


def _thought(said: str) -> int:
    """How many characters of an answer belong to its thought."""
    if not said.lstrip().startswith("<think>"):
        return 0
    head, mark, _ = said.partition("</think>")
    return len(head) + len(mark)
