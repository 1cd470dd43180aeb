"""What a person sees while a plan is executed: a heading a stage, its output, progress, and a table at the end.

On a terminal progress is a bar with figures and the time left; elsewhere it is a plain line now and then.
"""

import contextlib
import os
import shlex
import sys
import time
from typing import IO, TYPE_CHECKING, Any

from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from runner.plan import Plan, Step
from runner.process import INDENT

if TYPE_CHECKING:
    from runner.execute import Done

PLAIN_EVERY = 10.0  # seconds between plain progress lines
NARROWEST = 80  # columns of a table, if it wants so many: a narrower terminal folds the lines itself


class Lasting:
    """Standard output that may go away under a run: a closed terminal, a `tee` that Ctrl-C ended, a full disk. The run
    goes on, told on standard error where anybody still listens, and its lines are in the stages' log.txt.
    """

    def __init__(self, file: IO[str]) -> None:
        self.file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def write(self, text: str) -> int:
        """As a file's."""
        with self._kept():
            self.file.write(text)
        return len(text)

    def flush(self) -> None:
        """As a file's."""
        with self._kept():
            self.file.flush()

    @contextlib.contextmanager
    def _kept(self) -> Any:
        try:
            yield
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.file.fileno())
            os.close(nowhere)
            with contextlib.suppress(OSError):
                print(f"standard output: {error.strerror}. The run goes on; read log.txt.", file=sys.stderr, flush=True)


class Terminal:
    """Owns the screen of a run."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or screen(Lasting(sys.stdout))
        self._bar: Progress | None = None
        self._task: Any = None
        self._last, self._start = 0.0, 0.0
        self._begun = ("", 0)  # what is counted, and how much of it was done when this run began to count

    def stage(self, step: Step, note: str) -> None:
        """The heading of a stage."""
        self.console.print(Text.assemble((step.name, "bold cyan"), " ", (f"({step.kind})", "dim"), f" {note}"))
        self.console.file.flush()

    def line(self, text: str) -> None:
        """A line of a stage's output, as it came."""
        self.console.print(" " * INDENT + text.rstrip("\n"))

    def progress(self, state: dict[str, Any]) -> None:
        """Show how far a stage is."""
        figures = "  ".join(f"{name} {_figure(value)}" for name, value in state["shown"].items())
        if self.console.is_terminal:
            self._show(state, figures)
        else:
            self._say(state, figures)

    def _show(self, state: dict[str, Any], figures: str) -> None:
        if self._bar is None:
            columns = (
                SpinnerColumn(), BarColumn(bar_width=30), MofNCompleteColumn(), TextColumn("{task.description}"),
                TimeRemainingColumn(), TextColumn("{task.fields[figures]}", style="dim", markup=False),
            )  # fmt: skip
            self._bar = Progress(*columns, console=self.console, transient=True)
            self._task = self._bar.add_task(state["what"], total=state["total"], figures=figures)
            self._bar.start()
        self._bar.update(
            self._task, completed=state["done"], total=state["total"], description=state["what"], figures=figures
        )

    def _say(self, state: dict[str, Any], figures: str) -> None:
        now = time.monotonic()
        what, begun = self._begun
        if not self._start or state["what"] != what or state["done"] < begun:
            self._start, self._begun = now, (state["what"], state["done"])
        if state["done"] < state["total"] and now - self._last < PLAIN_EVERY:
            return
        self._last = now
        spent, done = now - self._start, state["done"] - self._begun[1]
        left = ""
        if spent and done and state["done"] < state["total"]:
            left = f"  about {spent / done * (state['total'] - state['done']):.0f} s left"
        self.line(f"{state['what']} {state['done']}/{state['total']}  {figures}{left}".rstrip())

    def progress_over(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
        self._bar, self._last, self._start = None, 0.0, 0.0

    def table(self, plan: Plan, ended: "list[Done]") -> None:
        """The stages with their time, their figures and what they made; then how to go on."""
        kept = [done for done in ended if done.step.stage.reuse != "never"]
        if not kept:
            return
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("stage", "kind", "state", "time", "figures", "folder"):
            table.add_column(column, overflow="fold")
        for done in kept:
            figures = "  ".join(
                f"{key} {_figure(value)}" for key, value in _main(done.made.metrics if done.made else {})
            )
            seconds = f"{done.seconds:.0f} s" if done.seconds else "-"
            table.add_row(done.step.name, done.step.kind, done.state, seconds, figures, str(done.step.folder))
        self.console.print()
        show(self.console, table)
        if any(done.made and done.made.kind in ("model", "adapter") for done in kept):
            chat = f"python -m runner +recipe=chat {shlex.quote(f'model={plan.run}')}"
            self.console.print(Text.assemble("\nChat with it: ", (chat, "bold")))


def screen(file: Any = None) -> Console:
    """Standard output. What a user wrote is shown as it is: no square bracket is markup, no number is coloured."""
    return Console(file=file, markup=False, emoji=False, highlight=False, soft_wrap=True)


def show(console: Console, table: Table) -> None:
    """Print a table as wide as the terminal, but not so narrow that words break; in a pipe a row is a line, without the
    blanks that fill its last column.
    """
    wanted = Measurement.get(console, console.options.update(width=10_000), table).maximum
    table.width = min(wanted, max(NARROWEST, console.width)) if console.is_terminal else wanted
    if console.is_terminal:
        console.print(table)
        return
    with console.capture() as made:
        console.print(table)
    for line in made.get().splitlines():
        console.print(line.rstrip())


def _main(metrics: Any) -> list[tuple[str, Any]]:
    """At most four figures, scalars only."""
    return [(key, value) for key, value in metrics.items() if isinstance(value, int | float | str)][:4]


def _figure(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
