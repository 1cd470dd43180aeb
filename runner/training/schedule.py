"""The learning rate of each update, as a share of the highest one.

Warm-up rises in even steps, so that no update is spent at rate 0. Then the rate stays (constant), falls in a straight
line (linear), on half a cosine (cosine), or stays and falls at the end (wsd: 1 - sqrt over the last fifth; Hägele et
al. 2024, arXiv 2405.18392), down to `lowest`.
"""

import math

from runner.core.specs import Optim

COOL_DOWN = 0.2  # share of all updates in which wsd falls


def warmup_updates(optim: Optim, total: int) -> int:
    """Updates of warm-up: below 1 `optim.warmup` is a share of all."""
    wanted = math.ceil(optim.warmup * total) if optim.warmup < 1 else round(optim.warmup)
    return min(wanted, total)


def share(optim: Optim, highest: float, update: int, total: int) -> float:
    """The rate of update `update` (from 0) of `total`, over `highest`."""
    warmup = warmup_updates(optim, total)
    if update < warmup:
        return (update + 1) / warmup
    lowest = min(1.0, optim.min_lr / highest)
    return lowest + (1.0 - lowest) * _falling(optim.schedule, min(update, total - 1), warmup, total)


def _falling(schedule: str, update: int, warmup: int, total: int) -> float:
    """From 1 at the end of warm-up towards 0, which would be reached one update after the last."""
    if schedule == "constant":
        return 1.0
    if schedule == "wsd":
        cooling = max(1, round(COOL_DOWN * total))
        begin = max(warmup, total - cooling)
        return 1.0 - math.sqrt((update - begin) / (total - begin)) if update > begin else 1.0
    done = (update - warmup) / max(1, total - warmup)
    return 1.0 - done if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))
