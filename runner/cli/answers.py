"""`runner answers RUN`: pages through the answers that a run has written, by reward, by length or as they came.

RUN is a run, a stage or a completions file; with --evaluation those to prompts that were kept aside. Works while a
training samples: what is whole of the file is shown.
"""

import argparse
import heapq
import json
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from runner.core.errors import ConfigError, DataError
from runner.rollouts.held_out import FILE as EVALUATIONS
from runner.stages._completions import FILE, located, question_of

FLAGS = (
    "--best", "--worst", "--longest", "--shortest", "--count N", "--skip N", "--update N", "--id TEXT",
    "--contains TEXT", "--whole", "--evaluation",
)  # fmt: skip
WIDTH = 800  # characters of an answer that are shown without --whole

Row = dict[str, Any]
ORDERS: dict[str, Callable[[Row], float]] = {
    "best": lambda row: -float(row["reward"]), "worst": lambda row: float(row["reward"]),
    "longest": lambda row: -row["completion_tokens"], "shortest": lambda row: row["completion_tokens"],
}  # fmt: skip


def main(words: Sequence[str], places: Sequence[Path] = ()) -> int:
    """Print some answers.

    Raises:
        ConfigError: a wrong flag. DataError: no answers there.
    """
    given = _given(words)
    file = find(Path(given.place).expanduser(), EVALUATIONS if given.evaluation else FILE)
    order = next((name for name in ORDERS if getattr(given, name)), None)
    kept = (row for row in rows(file) if _fits(row, given))
    most, missing = given.skip + given.count, ""
    if order:
        what = "reward" if order in ("best", "worst") else "completion_tokens"
        kept = (row for row in kept if isinstance(row.get(what), int | float))
        chosen = heapq.nsmallest(most, kept, key=ORDERS[order])[given.skip :]
        missing = "" if chosen or given.skip else f"; none that is asked for has a {what}"
    else:
        last = list(deque(kept, maxlen=most))
        chosen = last[: max(len(last) - given.skip, 0)]
    for row in chosen:
        _show(row, given.whole)
    print(f"{len(chosen)} answers of {file}" + (f", {order} first{missing}" if order else ", the last ones"))
    return 0


def _given(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False, exit_on_error=False)
    parser.add_argument("place", nargs="?")
    for flag in (*ORDERS, "whole", "evaluation"):
        parser.add_argument(f"--{flag}", action="store_true")
    parser.add_argument("--count", type=int, default=5)
    parser.add_argument("--skip", type=int, default=0)
    parser.add_argument("--update", type=int)
    parser.add_argument("--id")
    parser.add_argument("--contains")
    try:
        found, rest = parser.parse_known_args(list(words))
    except (argparse.ArgumentError, SystemExit):
        raise ConfigError("answers", f"cannot read {' '.join(words)!r}", _usage()) from None
    if found.place is None:
        raise ConfigError("answers", "nothing to page through", _usage())
    if rest:
        raise ConfigError("answers", f"no such flag: {' '.join(rest)}", _usage())
    orders = [f"--{name}" for name in ORDERS if getattr(found, name)]
    if len(orders) > 1:
        raise ConfigError("answers", f"{' and '.join(orders)} are two orders", "Take one of them.")
    if found.count < 1 or found.skip < 0:
        raise ConfigError("answers", f"no answers are --count {found.count} --skip {found.skip}", "Count from 1.")
    return found


def _usage() -> str:
    return f"Write: answers outputs/my_run {' '.join(f'[{flag}]' for flag in FLAGS)}."


def find(place: Path, name: str = FILE) -> Path:
    """The file of answers of that name that a path means; of a run the one that was written last.

    Raises:
        DataError: there is none.
    """
    if place.is_dir():
        held = located(str(place)) if name == FILE else place / name
        inner = sorted(place.glob(f"*/{name}"), key=lambda file: file.stat().st_mtime)
        place = held if held.is_file() or not inner else inner[-1]
    if not place.is_file() and name == EVALUATIONS:
        raise DataError(f"{place}: not found. A training on sampled answers writes it: mix.validation, eval.every.")
    if not place.is_file():
        raise DataError(f"{place}: not found. Give a run, a stage or a file of answers, such as outputs/my_run.")
    return place


def rows(file: Path) -> Iterator[Row]:
    """The whole lines of a file that may be growing."""
    with open(file, "rb") as stream:
        for number, line in enumerate(stream, 1):
            if not line.endswith(b"\n"):
                return
            try:
                row = json.loads(line.decode("utf-8"))
            except UnicodeDecodeError:
                raise DataError(f"{file}:{number}: is not UTF-8 text. Mend or remove the line.") from None
            except ValueError:
                raise DataError(f"{file}:{number}: is not JSON. Mend or remove the line.") from None
            if not isinstance(row, dict) or not isinstance(row.get("messages"), list) or "response" not in row:
                raise DataError(
                    f"{file}:{number}: holds no answer with `messages` and `response`. Give the answers of a run."
                )
            yield row


def _fits(row: Row, given: argparse.Namespace) -> bool:
    return (
        (given.update is None or row.get("update") == given.update)
        and (given.id is None or given.id in str(row.get("id")))
        and (given.contains is None or given.contains in str(row.get("response")))
    )


def _show(row: Row, whole: bool) -> None:
    told = [str(row.get("id"))]
    told += [f"update {row['update']}"] if "update" in row else []
    rewards = row.get("rewards")
    told += [f"{name} {_number(value)}" for name, value in (rewards if isinstance(rewards, dict) else {}).items()]
    told += [f"{name} {_number(row[name])}" for name in ("reward", "advantage") if row.get(name) is not None]
    told.append(f"{row.get('completion_tokens', '?')} tokens, {row.get('finish_reason', '?')}")
    text = str(row.get("response", ""))
    cut = "" if whole or len(text) <= WIDTH else f" … ({len(text)} characters)"
    sys.stdout.write(f"{'  '.join(told)}\n>>> {question_of(row)}\n<<< {text if whole else text[:WIDTH]}{cut}\n\n")


def _number(value: Any) -> str:
    return "none" if value is None else f"{value:.4g}" if isinstance(value, int | float) else str(value)
