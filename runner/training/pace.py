"""Finds how large micro-batches should be, and what of the activations to keep: the fastest that memory allows.

Tried on the real model with a handful of passes. Time and memory of a micro-batch are close to straight lines over its
tokens, so two sizes tell the third. Nothing here changes a gradient but by rounding.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from runner.core.artifact import write_whole
from runner.training.layers import Checkpointing

MOST = 32768  # tokens of a micro-batch: larger ones are no faster
LEAST = 1024  # where a trial begins
FILL = 0.96  # of the memory that is there: allocators waste some
FILE = "pace.json"


@dataclass(frozen=True)
class Sample:
    """A forward and backward pass over so many tokens. gib: the most memory that was in use."""

    tokens: int
    seconds: float
    gib: float


@dataclass(frozen=True)
class Pace:
    """How micro-batches run. budget: tokens of one. tokens_per_s: as tried, 0 where nothing was tried. memory_gib: what
    the recipe let it use.
    """

    budget: int
    checkpointing: Checkpointing = "off"
    compiled: bool = False
    tokens_per_s: float = 0.0
    memory_gib: float | None = None


@dataclass(frozen=True)
class Extent:
    """Tokens of the whole training, of the longest sequence, of a typical one, and of an update over all devices."""

    tokens: int
    longest: int
    typical: int
    update: int


Measure = Callable[[Checkpointing, int], Sample | None]  # None: out of memory


def find(
    measure: Measure, modes: Sequence[Checkpointing], gib: float, longest: int, update: int, compiled: bool = False
) -> Pace | None:
    """The fastest pace, or None when not even one sequence fits.

    Args:
        measure: runs a micro-batch. modes: from the fastest and hungriest to the most frugal. gib: memory to stay in.
        longest: tokens of the longest sequence, which must fit. update: tokens of an update on this device.
    """
    best: Pace | None = None
    for mode in modes:
        samples = _samples(measure, mode, gib * FILL, longest, update)
        if not samples:
            continue
        limit = samples[-1].tokens
        rounds = max(1, math.ceil(update / limit))
        rate = update / (rounds * _seconds(samples, update / rounds))
        if best is None or rate > best.tokens_per_s * 1.02:
            best = Pace(limit, mode, compiled, round(rate, 1))
        if rounds == 1:
            break
    return best


def _samples(measure: Measure, mode: Checkpointing, gib: float, longest: int, update: int) -> list[Sample]:
    """Passes of rising size within the memory; the last is as large as is useful. Empty: the longest does not fit."""
    first = measure(mode, max(LEAST, longest))
    if first is None or first.gib > gib:
        return []
    useful = max(first.tokens, min(MOST, update))
    if useful == first.tokens:
        return [first]
    second = measure(mode, min(2 * first.tokens, useful))
    if second is None or second.gib > gib:
        between = measure(mode, int(1.4 * first.tokens))
        return [first] if between is None or between.gib > gib else [first, between]
    for share in (1.0, 0.85, 0.7, 0.55):  # another program may hold what looked free
        tokens = int(share * _room(first, second, gib, useful))
        if tokens <= 1.05 * second.tokens:
            break
        third = measure(mode, tokens)
        if third is None or third.gib > gib / FILL:
            continue
        more = _larger(measure, mode, gib, useful, second, third) if share == 1.0 else None
        return [first, second, third, *([more] if more else [])]
    return [first, second]


def _larger(
    measure: Measure, mode: Checkpointing, gib: float, useful: int, small: Sample, large: Sample
) -> Sample | None:
    """A pass that is larger still, where small ones took more for a token than large ones do: what the line through two
    large ones says is nearer to the truth. A pass that was too large tells how far back to go.
    """
    for _ in range(3):
        tokens = _room(small, large, gib, useful)
        if tokens <= 1.05 * large.tokens:
            return None
        made = measure(mode, tokens)
        if made is not None and made.gib <= gib / FILL:
            return made
        useful = (large.tokens + tokens) // 2 if made is None else _room(large, made, gib, useful)
    return None


def _room(small: Sample, large: Sample, gib: float, useful: int) -> int:
    """Tokens that the memory holds by the line through two samples, and no more than are useful."""
    slope = max((large.gib - small.gib) / (large.tokens - small.tokens), 1e-9)
    return min(useful, int(large.tokens + (gib - large.gib) / slope))


def _seconds(samples: Sequence[Sample], tokens: float) -> float:
    """Of a micro-batch of so many tokens: on the line through the two samples around it."""
    if len(samples) == 1:
        return samples[0].seconds * max(1.0, tokens / samples[0].tokens)
    above = next((i for i, sample in enumerate(samples) if sample.tokens >= tokens and i), len(samples) - 1)
    left, right = samples[above - 1], samples[above]
    slope = (right.seconds - left.seconds) / (right.tokens - left.tokens)
    return max(left.seconds + slope * (tokens - left.tokens), 1e-6)


def reduced(kept: Pace, largest: int, alone: bool) -> Pace | None:
    """The next smaller pace after memory ran out, or None.

    Args:
        largest: tokens of the largest micro-batch of the update. alone: whether one sequence makes it.
    """
    if not alone:
        return replace(kept, budget=max(1, int(0.7 * min(kept.budget, largest))))
    return replace(kept, checkpointing="full") if kept.checkpointing != "full" else None


def read(file: Path) -> Pace | None:
    """A pace that was found before; None where there is none that can be read."""
    try:
        return Pace(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def write(file: Path, pace: Pace) -> None:
    """Keep it for the next start."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, json.dumps(asdict(pace)))
