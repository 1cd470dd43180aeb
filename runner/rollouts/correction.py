"""A factor for each token of an answer that was not sampled by quite the model that learns: an inference engine has
other kernels and precisions. It is the ratio of the model's probability to the sampler's, bounded; names as in TRL.

truncate: the ratio is cut at its bounds. mask: beyond its bounds it becomes 0. token: of each token alone.
sequence: of the whole answer (Yao et al. 2025, "Your efficient RL framework secretly brings you off-policy training").
"""

import math
from collections.abc import Sequence
from typing import Literal

Correction = Literal["none", "token_truncate", "token_mask", "sequence_truncate", "sequence_mask"]
FARTHEST = 80.0  # of a logarithm, so that the ratio stays a number


def factors(
    kind: Correction, old: Sequence[float], sampled: Sequence[float], highest: float | None, lowest: float | None
) -> list[float]:
    """A factor a token.

    Args:
        old: log-probabilities by the model; sampled: by the engine; one that is not a number is taken as equal.
    """
    gaps = [0.0 if math.isnan(b) else a - b for a, b in zip(old, sampled, strict=True)]
    if kind.startswith("sequence"):
        gaps = [math.fsum(gaps)] * len(gaps)
    ratios = [math.exp(max(-FARTHEST, min(FARTHEST, gap))) for gap in gaps]
    low, high = -math.inf if lowest is None else lowest, math.inf if highest is None else highest
    if kind.endswith("mask"):
        return [ratio if low <= ratio <= high else 0.0 for ratio in ratios]
    return [min(max(ratio, low), high) for ratio in ratios]


def mismatch(old: Sequence[float], sampled: Sequence[float]) -> list[float]:
    """The difference of the two log-probabilities, a token."""
    return [abs(a - b) for a, b in zip(old, sampled, strict=True) if not math.isnan(b)]
