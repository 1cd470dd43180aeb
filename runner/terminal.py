"""What a person sees while a plan is executed: a heading a stage, its output, progress, and a table at the end.

On a terminal progress is a bar with figures and the time left; elsewhere it is a plain line now and then.
"""

import sys
import time
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from runner.plan import Plan, Step

if TYPE_CHECKING:
    from runner.execute import Done

PLAIN_EVERY = 10.0  # seconds between plain progress lines


class Terminal:
    """Owns the screen of a run."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=False, highlight=False, soft_wrap=True)
        self._bar: Progress | None = None
        self._task: Any = None
        self._last, self._start = 0.0, 0.0

    def stage(self, step: Step, note: str) -> None:
        """The heading of a stage."""
        self.console.print(f"[bold cyan]{step.name}[/] [dim]({step.kind})[/] {note}")
        sys.stdout.flush()

    def line(self, text: str) -> None:
        """A line of a stage's output, as it came."""
        self.console.print("  " + text.rstrip("\n"), markup=False, highlight=False)

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
                TimeRemainingColumn(), TextColumn("[dim]{task.fields[figures]}"),
            )  # fmt: skip
            self._bar = Progress(*columns, console=self.console, transient=True)
            self._task = self._bar.add_task(state["what"], total=state["total"], figures=figures)
            self._bar.start()
        self._bar.update(
            self._task, completed=state["done"], total=state["total"], description=state["what"], figures=figures
        )

    def _say(self, state: dict[str, Any], figures: str) -> None:
        now = time.monotonic()
        if state["done"] <= 1 or not self._start:
            self._start = now
        if state["done"] < state["total"] and now - self._last < PLAIN_EVERY:
            return
        self._last = now
        spent, done = now - self._start, max(state["done"], 1)
        left = f"  about {spent / done * (state['total'] - done):.0f} s left" if spent and done < state["total"] else ""
        self.line(f"{state['what']} {state['done']}/{state['total']}  {figures}{left}")

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
        self.console.print(table)
        if any(done.made and done.made.kind in ("model", "adapter") for done in kept):
            self.console.print(f"\nChat with it: [bold]python -m runner +recipe=chat model={plan.run}[/]")


def _main(metrics: Any) -> list[tuple[str, Any]]:
    """At most four figures, scalars only."""
    return [(key, value) for key, value in metrics.items() if isinstance(value, int | float | str)][:4]


def _figure(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
