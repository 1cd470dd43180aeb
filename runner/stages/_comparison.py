"""Pairs the answers of two stages by question, and tells the pairs as a table, as Markdown and as figures."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from runner.scoring.intervals import summary
from runner.stages import _scores
from runner.stages._completions import given, located, named, read

Pair = dict[str, Any]
SIDES = ("before", "after")


def answers(name: str) -> dict[tuple[str, int], dict[str, Any]]:
    """The answers of a stage by question and sample: with their scores where it scored them.

    Answers of others may not be numbered: those to one question are numbered in their order.
    """
    scores = Path(name) / _scores.FILE
    if scores.is_file():
        rows = read(scores)
    else:
        rows = [{**_scores.line(row, {}, None), "source": row.get("source")} for row in given(located(name))]
    made: dict[tuple[str, int], dict[str, Any]] = {}
    for row in named(rows):
        sample = row["sample"] if isinstance(row["sample"], int) else 0
        while (row["id"], sample) in made:
            sample += 1
        made[row["id"], sample] = row
    return made


def pairs(before: Mapping[tuple[str, int], Any], after: Mapping[tuple[str, int], Any]) -> list[Pair]:
    """The questions that both answered, in the order of the first."""
    return [
        {
            "id": key[0],
            "sample": key[1],
            "source": before[key]["source"],
            "question": before[key]["question"],
            "before": before[key]["response"],
            "after": after[key]["response"],
            "scores": {"before": before[key]["scores"], "after": after[key]["scores"]},
        }
        for key in before
        if key in after
    ]


def by_source(found: Sequence[Pair]) -> dict[str, list[Pair]]:
    """The pairs of each source, in order."""
    made: dict[str, list[Pair]] = {}
    for pair in found:
        made.setdefault(str(pair["source"]), []).append(pair)
    return made


def rewards(found: Sequence[Pair]) -> list[str]:
    """The rewards that both sides were scored by."""
    names = [{name for pair in found for name in pair["scores"][side]} for side in SIDES]
    return sorted(names[0] & names[1])


def _summary(held: Sequence[Pair], name: str, side: str) -> dict[str, Any]:
    return summary([pair["scores"][side].get(name) for pair in held], [pair["id"] for pair in held])


def figures(found: Sequence[Pair]) -> dict[str, Any]:
    """For each reward its mean before and after, then counts and intervals by source."""
    made: dict[str, Any] = {}
    for name in rewards(found):
        for side in SIDES:
            mean = _summary(found, name, side).get("mean")
            if mean is not None:
                made[f"{name}_{side}"] = mean
    made["sources"] = {
        source: {name: {side: _summary(held, name, side) for side in SIDES} for name in rewards(held)}
        for source, held in by_source(found).items()
    }
    return made


def score_lines(found: Sequence[Pair]) -> Iterator[tuple[str, str, str, str]]:
    """Rows (source, reward, before, after) of the table of scores."""
    for source, held in by_source(found).items():
        for name in rewards(held):
            told = [_told(_summary(held, name, side)) for side in SIDES]
            yield Path(source).name, name, told[0], told[1]


def _told(details: Mapping[str, Any]) -> str:
    if "mean" not in details:
        return "-"
    return str(details["right"]) if "right" in details else f"{details['mean']:.3f}"


def show(found: Sequence[Pair], count: int) -> None:
    """Print the first questions of each source, and the scores; colours and width as the terminal has them."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    out = Console(width=shutil.get_terminal_size((110, 24)).columns)
    table = Table(show_lines=True, expand=True)
    for title in ("question", *SIDES):
        table.add_column(title, ratio=1, overflow="fold")
    for held in by_source(found).values():
        for pair in held[:count]:
            table.add_row(*(Text(str(pair[name]).strip()) for name in ("question", *SIDES)))
    if table.row_count:
        out.print(table)
    scores = Table(box=None, pad_edge=False)
    for title in ("questions of", "reward", *SIDES):
        scores.add_column(title)
    for line in score_lines(found):
        scores.add_row(*line)
    if scores.row_count:
        out.print(scores)


def markdown(found: Sequence[Pair]) -> str:
    """All pairs, and the scores, as two tables."""
    lines = ["| question | before | after |", "| --- | --- | --- |"]
    lines += ["| " + " | ".join(_cell(pair[name]) for name in ("question", *SIDES)) + " |" for pair in found]
    scores = list(score_lines(found))
    if scores:
        lines = (
            ["| questions of | reward | before | after |", "| --- | --- | --- | --- |"]
            + ["| " + " | ".join(map(_cell, line)) + " |" for line in scores]
            + ["", *lines]
        )
    return "\n".join(lines) + "\n"


def _cell(text: Any) -> str:
    return str(text).strip().replace("|", "\\|").replace("\n", "<br>")
