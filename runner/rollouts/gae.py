"""What each token of an answer was worth beyond what was expected: generalized advantage estimation (Schulman et al.
2016, arXiv 1506.02438) over the reward at the answer's end and the divergence from the reference on the way.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from runner.rollouts.answers import Answer, Group

EPSILON = 1e-8  # of a variance


@dataclass(frozen=True)
class Gae:
    """gamma: what a later reward counts a token earlier. lam: between the next value's word (0) and the end's (1).

    kl_coef: weight of each token's divergence. whiten_rewards: whether rewards are scaled over the rollout.
    """

    gamma: float = 1.0
    lam: float = 0.95
    kl_coef: float = 0.05
    whiten_rewards: bool = False

    def weigh(self, groups: Sequence[Group]) -> list[Group]:
        """The groups with a gain and a return for each token, gains with mean 0 and variance 1 over the rollout."""
        answers = [answer for group in groups for answer in group]
        rewards = [self._rewards(answer) for answer in answers]
        if self.whiten_rewards:
            rewards = _whitened(rewards, centred=False)
        pairs = [advantages(r, a.values, self.gamma, self.lam) for r, a in zip(rewards, answers, strict=True)]
        gains = _whitened([gain for gain, _ in pairs])
        left = iter(
            replace(answer, gains=tuple(gain), returns=tuple(back), advantage=_mean(gain))
            for answer, gain, (_, back) in zip(answers, gains, pairs, strict=True)
        )
        return [tuple(next(left) for _ in group) for group in groups]

    def _rewards(self, answer: Answer) -> list[float]:
        """Of each token; nothing for an answer that was masked or has no score."""
        if answer.total is None or not answer.values:
            return []
        made = [0.0] * len(answer.values)
        if answer.reference:
            made = [-self.kl_coef * (a - b) for a, b in zip(answer.old, answer.reference, strict=True)]
        made[-1] += answer.total
        return made


def advantages(
    rewards: Sequence[float], values: Sequence[float], gamma: float, lam: float
) -> tuple[list[float], list[float]]:
    """Advantage and return of each token; after the last one nothing is expected."""
    gains = [0.0] * len(rewards)
    later, following = 0.0, 0.0
    for place in range(len(rewards) - 1, -1, -1):
        surprise = rewards[place] + gamma * following - values[place]
        later = surprise + gamma * lam * later
        gains[place], following = later, values[place]
    return gains, [gain + value for gain, value in zip(gains, values, strict=False)]


def _whitened(rows: Sequence[Sequence[float]], centred: bool = True) -> list[list[float]]:
    everything = [value for row in rows for value in row]
    if len(everything) < 2:
        return [list(row) for row in rows]
    mean = math.fsum(everything) / len(everything)
    variance = math.fsum((value - mean) ** 2 for value in everything) / (len(everything) - 1)
    scale, shift = 1.0 / math.sqrt(variance + EPSILON), (0.0 if centred else mean)
    return [[(value - mean) * scale + shift for value in row] for row in rows]


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
