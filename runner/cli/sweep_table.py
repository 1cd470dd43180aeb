"""A sweep as a person reads it: a line a job, before (`runner plan -m`) and after."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from runner.terminal import screen
from runner.terminal import show as show_table

if TYPE_CHECKING:
    from runner.cli.sweep import Planned


def show(planned: "Sequence[Planned]", ended: Sequence[Any] = (), console: Console | None = None) -> None:
    """Print job, state, objective and folder. ended: Hydra's return of each job, none before the sweep."""
    out = console or screen()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("job", "state", "objective", "folder") if ended else ("job", "state", "folder"):
        table.add_column(column, overflow="fold")
    if not planned:
        for number, result in enumerate(ended):
            table.add_row(" ".join(result.overrides or [str(number)]), *_ended(result), str(result.working_dir))
    shared = set.intersection(*(set(job.overrides) for job in planned)) if len(planned) > 1 else set()
    for number, job in enumerate(planned):
        name = " ".join(word.lstrip("+") for word in job.overrides if word not in shared) or "as written"
        row = _ended(ended[number]) if ended else (_state(job.plan),)
        table.add_row(name, *row, str(job.plan.run))
    show_table(out, table)
    for number, result in enumerate(ended):
        if result.status.name != "COMPLETED":
            where = planned[number].plan.run if planned else result.working_dir
            out.print(Text.assemble(("failed", "red"), f" {where}: {str(result._return_value).splitlines()[0]}"))


def _ended(result: Any) -> tuple[str, str]:
    if result.status.name != "COMPLETED":
        return "failed", "-"
    value = result._return_value
    return "done", f"{value:.6g}" if isinstance(value, int | float) else "-"


def _state(plan: Any) -> str:
    left = [step.name for step in plan.steps if step.state != "reuse"]
    return f"run {', '.join(left)}" if left else "complete"
