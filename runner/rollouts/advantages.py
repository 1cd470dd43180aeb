"""How much better an answer is than the others to the same prompt; a pure function of scores.

An answer without a score is left out of its group's mean and has no advantage. A group with fewer than two scores, or
whose scores are all the same, teaches nothing and has none at all.
"""

import math
from collections.abc import Sequence
from typing import Literal

Scale = Literal["group", "batch", "none"]
Scores = Sequence[float | None]
TINY = 1e-4  # added to a spread before dividing by it, as in TRL
EQUAL = 1e-8  # a spread that is none


def spread(scores: Scores) -> float:
    """The sample's standard deviation (over n - 1) of what is scored; 0 for fewer than two scores."""
    known = [score for score in scores if score is not None]
    if len(known) < 2:
        return 0.0
    mean = math.fsum(known) / len(known)
    return math.sqrt(math.fsum((score - mean) ** 2 for score in known) / (len(known) - 1))


def usable(scores: Scores) -> bool:
    """Whether a group tells better from worse."""
    return spread(scores) > EQUAL


def relative(
    groups: Sequence[Scores], scale: Scale = "group", left_out: Sequence[Sequence[bool]] | None = None
) -> list[list[float | None]]:
    """Score minus the mean of its group, over the spread of the group, of the whole batch, or as it is (GRPO).

    Args:
        left_out: answers that do not count in mean and spread, such as truncated ones.
    """
    counted = _counted(groups, left_out)
    whole = spread([score for group in counted for score in group])
    made: list[list[float | None]] = []
    for group, held in zip(groups, counted, strict=True):
        known = [score for score in held if score is not None]
        if not usable(held):
            made.append([None] * len(group))
            continue
        mean = math.fsum(known) / len(known)
        over = {"group": spread(held) + TINY, "batch": whole + TINY, "none": 1.0}[scale]
        made.append([None if score is None else (score - mean) / over for score in group])
    return made


def leave_one_out(groups: Sequence[Scores]) -> list[list[float | None]]:
    """Score minus the mean of the other answers (RLOO; Ahmadian et al. 2024, arXiv 2402.14740)."""
    made: list[list[float | None]] = []
    for group in groups:
        known = [score for score in group if score is not None]
        if not usable(group):
            made.append([None] * len(group))
            continue
        total, others = math.fsum(known), len(known) - 1
        made.append([None if score is None else score - (total - score) / others for score in group])
    return made


def _counted(groups: Sequence[Scores], left_out: Sequence[Sequence[bool]] | None) -> list[list[float | None]]:
    if left_out is None:
        return [list(group) for group in groups]
    return [
        [None if out else score for score, out in zip(group, outs, strict=True)]
        for group, outs in zip(groups, left_out, strict=True)
    ]
