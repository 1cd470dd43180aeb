"""The books of a training: figures since the last line of metrics.jsonl, and of the whole of it.

A line tells of all updates since the line before: `loss` is their mean, rows and tokens their sums, `grad_norm` and
`lr` those of the last one. The books are kept in each checkpoint, so that a training that was stopped tells the same.
"""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from runner.core.artifact import named, write_whole
from runner.training.checkpoints import standing
from runner.training.planned import Size

FILE = "metrics.jsonl"
SKIPPED = "skipped_updates.jsonl"
SHOWN = 4  # figures of an evaluation on the terminal


@dataclass
class Sums:
    """Sums over updates. losses: over those that were finite, `counted` of them."""

    updates: int = 0
    rows: int = 0
    tokens: int = 0
    trained_tokens: int = 0
    slots: int = 0
    seconds: float = 0.0
    losses: float = 0.0
    counted: int = 0
    figures: dict[str, float] = field(default_factory=dict)

    def add(self, size: Size, loss: float, seconds: float, figures: Mapping[str, float]) -> None:
        """Count one update."""
        self.updates += 1
        self.rows += size.rows
        self.tokens += size.tokens
        self.trained_tokens += size.trained_tokens
        self.slots += size.slots
        self.seconds += seconds
        if math.isfinite(loss):
            self.losses += loss
            self.counted += 1
            for name, value in figures.items():
                self.figures[name] = self.figures.get(name, 0.0) + value

    def a_second(self, amount: int) -> float | None:
        """So many of something, over the seconds of the updates."""
        return round(amount / self.seconds, 2) if self.seconds else None

    @property
    def loss(self) -> float | None:
        """The mean loss of the updates; None when there was none or all were skipped."""
        return self.losses / self.counted if self.counted else None


@dataclass
class Ledger:
    """Books of one training in a stage's folder.

    skipped: updates (from 1) whose loss or gradient was not finite. evaluated: the update last evaluated.
    eval_loss, eval_figures: of that evaluation. start: what one before the first update is compared by. best: the
    update of the best one after that, and its figure.
    """

    folder: Path
    window: Sums = field(default_factory=Sums)
    whole: Sums = field(default_factory=Sums)
    skipped: list[int] = field(default_factory=list)
    evaluated: int | None = None
    eval_loss: float | None = None
    eval_figures: dict[str, float] = field(default_factory=dict)
    start: dict[str, float | None] | None = None
    best: tuple[int, float] | None = None
    final_loss: float | None = None  # of the last line

    def add(self, size: Size, loss: float, seconds: float, figures: Mapping[str, float]) -> None:
        """Count one update."""
        self.window.add(size, loss, seconds, figures)
        self.whole.add(size, loss, seconds, figures)

    def line(self, update: int, epoch: float, grad_norm: float | None, lr: float, **more: Any) -> dict[str, Any]:
        """The figures since the last line, which begin anew."""
        sums, self.window = self.window, Sums()
        self.final_loss = sums.loss
        return {
            "update": update,
            "epoch": round(epoch, 6),
            "loss": sums.loss,
            "grad_norm": grad_norm if grad_norm is not None and math.isfinite(grad_norm) else None,
            "lr": lr,
            "rows": sums.rows,
            "tokens": sums.tokens,
            "trained_tokens": sums.trained_tokens,
            "padding_share": round(1.0 - sums.tokens / sums.slots, 6) if sums.slots else 0.0,
            "seconds": round(sums.seconds, 4),
            "tokens_per_s": sums.a_second(sums.tokens),
            "trained_tokens_per_s": sums.a_second(sums.trained_tokens),
            **more,
            **{name: value / sums.counted for name, value in sums.figures.items()},
        }

    def evaluation(self, update: int, loss: float | None, figures: Mapping[str, float]) -> None:
        """Note an evaluation. figures: the algorithm's own, and of answers that were scored."""
        self.evaluated, self.eval_loss, self.eval_figures = update, loss, dict(figures)
        told = self.judged(update)
        if update == 0:  # never the best: there is no checkpoint of it
            self.start = told
            return
        place = standing(told)
        before = None if self.best is None else standing({self.judge: self.best[1]})
        if place is not None and (before is None or place < before):
            self.best = (update, told[self.judge])

    @property
    def judge(self) -> str:
        """The figure by which evaluations are compared."""
        return "eval_reward" if "eval_reward" in self.eval_figures else "eval_loss"

    def judged(self, update: int) -> dict[str, Any]:
        """That figure of an update; None when it was not evaluated."""
        found = {"eval_loss": self.eval_loss, **self.eval_figures}[self.judge]
        return {self.judge: found if self.evaluated == update else None}

    def in_a_row(self) -> int:
        """How many of the last updates were skipped one after the other."""
        count = 0
        while count < len(self.skipped) and self.skipped[-1 - count] == self.whole.updates - count:
            count += 1
        return count

    def state(self) -> dict[str, Any]:
        """The books as plain data."""
        made = asdict(self)
        made.pop("folder")
        return made

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from books that were kept."""
        self.window, self.whole = Sums(**state["window"]), Sums(**state["whole"])
        self.skipped, self.evaluated, self.eval_loss = list(state["skipped"]), state["evaluated"], state["eval_loss"]
        self.eval_figures, self.start = dict(state.get("eval_figures", {})), state.get("start")
        self.best = (state["best"][0], state["best"][1]) if state["best"] else None
        self.final_loss = state["final_loss"]


def sentence(update: int, figures: Mapping[str, Any]) -> str:
    """An evaluation in words: after which update, and the first of its figures."""
    shown = ", ".join(
        f"{name} {'none' if value is None else format(value, '.4g')}" for name, value in list(figures.items())[:SHOWN]
    )
    return f"evaluation {f'after update {update}' if update else 'before the first update'}: {shown}"


def append(file: Path, line: Mapping[str, Any]) -> None:
    """Append one JSON line, in one write where the disk has room; where it has none an error is raised, and `cut_back`
    drops what there is of the line. Numbers that are not finite become null.
    """
    left = (json.dumps({key: _finite(value) for key, value in line.items()}, ensure_ascii=False) + "\n").encode()
    with named(file):
        handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            while left:  # a disk that fills up takes a part without a word
                left = left[os.write(handle, left) :]
        finally:
            os.close(handle)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def cut_back(file: Path, update: int, evaluated: bool = True) -> None:
    """Drop lines of updates after `update`, and a last line that a crash left half: they will be written again.

    Args:
        evaluated: whether the evaluation of `update` counts; else its line, if it came so far, is dropped too.
    """
    if not file.is_file():
        return
    kept = []
    for line in file.read_text(encoding="utf-8").split("\n"):  # a text of a line may hold Unicode's own line ends
        try:
            told = json.loads(line)
            if told["update"] < update or (told["update"] == update and (evaluated or "loss" in told)):
                kept.append(line)
        except ValueError:
            continue
    write_whole(file, "".join(line + "\n" for line in kept))
