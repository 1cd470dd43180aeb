"""`runner reward FILE reward=[contains]`: scores answers that are there already, and shows how the scores are spread.

The file is what a stage wrote, or any rows with messages whose last turn is the assistant's, or with a `response`.
`--output FILE.jsonl` writes a line an answer, as `scores.jsonl` of an evaluation has it. No model is needed.
"""

import argparse
import json
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runner.cli.compose import Composer
from runner.cli.output_file import refuse_present
from runner.core import schema
from runner.core.artifact import write_whole
from runner.core.errors import ConfigError
from runner.core.places import with_plugins
from runner.core.specs import Recipe, Reward
from runner.terminal import screen
from runner.terminal import show as show_table

BARS = " ▁▂▃▄▅▆▇█"
FEW = 4  # values that are told one by one
BINS = 10


def flags(words: Sequence[str]) -> tuple[Path | None, list[str]]:
    """The file to write, and the rest of the command line.

    Raises:
        ConfigError: --output without a file.
    """
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False, exit_on_error=False)
    parser.add_argument("--output", type=Path)
    try:
        found, rest = parser.parse_known_args(list(words))
    except argparse.ArgumentError as error:
        raise ConfigError("command line", f"--output: {error.message}", "Write --output FILE.jsonl.") from None
    return found.output, rest


def reward(composer: Composer, output: Path | None, names: Sequence[str]) -> int:
    """Score the rows of a file; print a table; write the scores where that is asked for.

    Raises:
        RunnerError: no such file, a row without an answer, a reward that is not there or lacks a column.
    """
    from runner.data.carried import LEFT_OUT
    from runner.scoring.arguments import check
    from runner.scoring.rewards import Rewards
    from runner.stages import _scores
    from runner.stages._scoring import score

    values = composer.values()
    rewards, places = _rewards(values), with_plugins(composer.places, values.get("plugins_path"))
    if len(names) != 1:
        what = "no file to score" if not names else f"one file, not {len(names)}: {' '.join(names)}"
        raise ConfigError("reward", what, "Write: runner reward completions.jsonl reward=[contains].")
    refuse_present(output)
    rows = answers(names[0])
    check(rewards, places, "reward", {name for row in rows for name in (*row, *row.get(LEFT_OUT, ()))})
    with Rewards(rewards, places) as ready:
        found = score(ready, rows)
        failed = {name: tally.failed for name, tally in ready.tallies.items()}
    lines = [_scores.line(row, scores, total) for row, (scores, total) in zip(rows, found, strict=True)]
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_whole(output, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    columns: dict[str, list[float | None]] = {name: [line["scores"].get(name) for line in lines] for name in rewards}
    if len(rewards) > 1 or any(one.weight != 1 for one in rewards.values()):
        columns["weighted sum"] = [line["total"] for line in lines]
    show(columns, failed, [place if line["id"] is None else str(line["id"]) for place, line in enumerate(lines)])
    print(f"{len(lines)} answers of {names[0]}" + (f", scores in {output}" if output else ""))
    return 0


def _rewards(values: Mapping[str, Any]) -> dict[str, Reward]:
    """The rewards of the command line, or of the recipe that it names."""
    model = {"id": "unused", **(values.get("model") or {})}
    recipe = schema.build(Recipe, {**values, "name": "reward", "model": {**model, "id": "unused"}, "stages": {}})
    if not recipe.reward:
        raise ConfigError("reward", "no reward to score with", "Choose one: reward=[contains] (`runner list rewards`).")
    return recipe.reward


def answers(name: str) -> list[dict[str, Any]]:
    """The rows of a file, a stage or a run, each with messages, response and finish_reason.

    Raises:
        DataError: no file, no row, or a row without an answer.
    """
    from runner.cli.answers import find
    from runner.stages._completions import given

    return given(find(Path(name).expanduser()))


def show(columns: Mapping[str, Sequence[float | None]], failed: Mapping[str, int], ids: Sequence[object]) -> None:
    """A line a reward: mean with its interval, spread, how many have no score, and how the scores are distributed.

    ids: the question of each answer.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for title in ("reward", "mean", "95%", "std", "scored", "none", "failed", "distribution"):
        table.add_column(title, justify="left" if title in ("reward", "distribution") else "right", overflow="fold")
    for name, scores in columns.items():
        known = [value for value in scores if value is not None]
        none, bad = len(scores) - len(known), failed.get(name, 0)
        cells = [
            name,
            *_figures(scores, ids),
            str(len(known)),
            str(none),
            str(bad) if name in failed else "",
            spread(known),
        ]
        table.add_row(*map(Text, cells))
    show_table(screen(), table)


def _figures(scores: Sequence[float | None], ids: Sequence[object]) -> list[str]:
    from runner.scoring.intervals import summary

    known = [score for score in scores if score is not None]
    if not known:
        return ["-", "-", "-"]
    interval: Any = summary(scores, ids).get("interval")
    return [
        f"{statistics.fmean(known):.3f}",
        f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else "-",
        f"{statistics.pstdev(known):.3f}",
    ]


def spread(known: Sequence[float]) -> str:
    """Few values with their counts, `0: 3  1: 17`; many as bars from the lowest to the highest."""
    if not known:
        return ""
    counts = Counter(known)
    if len(counts) <= FEW:
        return "  ".join(f"{value + 0.0:g}: {counts[value]}" for value in sorted(counts))
    low, high = min(known), max(known)
    bins = Counter(min(int((value - low) / (high - low) * BINS), BINS - 1) for value in known)
    top = max(bins.values())
    bars = "".join(BARS[-(-bins[place] * (len(BARS) - 1) // top)] for place in range(BINS))
    return f"{low:g} {bars} {high:g}"
