"""`runner plan`: the run graph as a person reads it."""

import shlex

from rich.console import Console
from rich.table import Table

from runner.execute import command
from runner.plan import Plan


def show(plan: Plan, console: Console | None = None) -> None:
    """Print stages in order: what each needs and makes, whether it runs, and the command that runs it alone."""
    out = console or Console(highlight=False, soft_wrap=True)
    out.print(f"[bold]{plan.recipe.name}[/]  {plan.run}")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("stage", "kind", "needs", "makes", "state", "why"):
        table.add_column(column)
    for step in plan.steps:
        makes = step.stage.produces()
        table.add_row(
            step.name, step.kind, ", ".join(step.needs) or "-", makes if makes != "none" else "-", step.state, step.reason
        )
    out.print(table)
    for step in plan.steps:
        for line in step.stage.summary() if hasattr(step.stage, "summary") else ():
            out.print(f"[cyan]{step.name}[/] {line}")
    for step in plan.steps:
        if step.state == "run":
            out.print(f"[dim]{step.name}: {shlex.join(command(step.folder))}[/]")
