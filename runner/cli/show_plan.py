"""`runner plan`: the run graph as a person reads it."""

import shlex

from rich.console import Console
from rich.table import Table
from rich.text import Text

from runner.cli.figures import Figures, figures, lines, short
from runner.core.specs import STAGE
from runner.execute import command
from runner.plan import Plan, Step
from runner.terminal import screen
from runner.terminal import show as show_table


def show(plan: Plan, console: Console | None = None) -> None:
    """Print stages in order: what each needs and makes, whether it runs and why, its figures, and its command."""
    out = console or screen()
    out.print(Text.assemble((plan.recipe.name, "bold"), f"  {plan.run}"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("stage", "kind", "needs", "makes", "state", "why"):
        table.add_column(column, no_wrap=column != "why", overflow="fold")
    for step in plan.steps:
        makes = step.stage.produces()
        made = makes if makes != "none" else "-"
        table.add_row(step.name, step.kind, ", ".join(step.needs) or "-", made, step.state, step.reason)
    show_table(out, table)
    known = {step.name: figures(step.stage, plan.places, _bases(plan), step.identity) for step in plan.steps}
    for step in plan.steps:
        _details(out, step, known[step.name])
    out.print(f"\n{_total(plan, known)}")


def _bases(plan: Plan) -> dict[str, str]:
    """For each stage the model that its work comes from, followed through the graph."""
    bases: dict[str, str] = {}
    for step in plan.steps:
        name = getattr(getattr(step.stage, "model", None), "id", "")
        bases[step.name] = bases.get(name.removeprefix(STAGE), name) if name.startswith(STAGE) else name
    return bases


def _details(out: Console, step: Step, known: Figures | None) -> None:
    told = list(step.stage.summary()) if hasattr(step.stage, "summary") else []
    told += list(lines(step.stage, known)) if known else []
    if told or step.state != "reuse":
        out.print(Text(step.name, "cyan"))
    for line in told:
        out.print(f"  {line}")
    if step.state != "reuse":
        out.print(Text(f"  alone    {shlex.join(command(step.folder))}", "dim"))


def _total(plan: Plan, known: dict[str, Figures | None]) -> str:
    run = [step for step in plan.steps if step.state != "reuse"]
    if not run:
        return "Nothing to do: every stage is complete."
    trained = [figure for step in run if (figure := known[step.name])]
    parts = [f"{len(run)} of {len(plan.steps)} stages run"]
    if trained and all(figure.updates is not None for figure in trained):
        about = "" if all(figure.sure for figure in trained) else "~"
        parts.append(f"{about}{sum(figure.updates or 0 for figure in trained)} updates")
    about = "" if all(figure.size.counted for figure in trained) else "~"
    if trained and all(figure.tokens is not None for figure in trained):
        parts.append(f"{about}{short(sum(figure.tokens or 0 for figure in trained))} tokens trained on")
    refused = [step.name for step in run if step.state == "changed"]
    if refused and plan.recipe.on_change == "refuse":
        parts.append(
            f"a run is refused, because {', '.join(refused)} would be overwritten (on_change=replace|new decides)"
        )
    return "total    " + ", ".join(parts)
