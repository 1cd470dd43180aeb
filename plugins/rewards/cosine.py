"""Accuracy that minds the length: short right answers are worth most, short wrong ones least (Yeo et al. 2025,
arXiv 2502.03373). Between 0 and `max_length` tokens the score goes along half a cosine wave; beyond it stays.

Columns: `solution`, as for accuracy. Lengths come from `completion_ids`, or `completion_tokens` of a completions file.
"""

import math
from typing import Any

from runner.api import ConfigError, lengths, reward


def cosine(
    completions: list[str],
    *,
    solution: list[Any],
    max_length: int = 0,
    right: list[float] = [1.0, 0.5],  # noqa: B006 - read only
    wrong: list[float] = [-0.5, 0.0],  # noqa: B006 - read only
    **columns: Any,
) -> list[float | Exception | None]:
    """Score each answer.

    Args:
        max_length: tokens at which the wave ends; sampling.max_new_tokens is a good one.
        right, wrong: the scores of right and wrong answers of no length and of `max_length`.
    """
    if max_length < 1:
        raise ConfigError("reward.cosine.params.max_length", "missing", "Say how many tokens: sampling.max_new_tokens.")
    for name, pair in (("right", right), ("wrong", wrong)):
        if len(pair) != 2:
            raise ConfigError(
                f"reward.cosine.params.{name}", f"{pair} are not two scores", "Give [1.0, 0.5], or others."
            )
    scores: list[float | Exception | None] = []
    told = lengths(columns)
    for hit, length in zip(reward("accuracy")(completions, solution=solution), told, strict=True):
        if not isinstance(hit, float) or length is None:
            scores.append(None if isinstance(hit, float) else hit)  # accuracy says none, or failed
            continue
        short, long = right if hit >= 1.0 else wrong
        wave = (1 - math.cos(math.pi * min(length / max_length, 1.0))) / 2
        scores.append(short + (long - short) * wave)
    return scores
