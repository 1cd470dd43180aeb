"""The figures of a rollout, named as TRL logs them, and of the windows over which alerts look."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runner.rollouts.advantages import EQUAL, spread
from runner.rollouts.answers import Answer, Group
from runner.rollouts.correction import mismatch


@dataclass(frozen=True)
class Facts:
    """What alerts look at. groups: of the rollout; same: those whose answers were all worth the same; entropy: the mean
    surprise of a sampled token, an estimate, in nats; mismatch: mean difference of sampler and model; kl: to the
    reference, as it stood when the rollout was made; unscored: answers that rewards looked at and none has scored;
    left_out: share of what is compared that the correction masks. None: not known.
    """

    groups: int
    same: int
    answers: int
    truncated: int
    reward: float | None
    entropy: float | None
    mismatch: float | None = None
    kl: float | None = None
    unscored: int = 0
    left_out: float | None = None


def facts(groups: Sequence[Group]) -> Facts:
    """The facts of a rollout."""
    answers = [answer for group in groups for answer in group]
    totals = [answer.total for answer in answers if answer.total is not None]
    surprise = [-value for answer in answers for value in answer.sampled if math.isfinite(value)]
    gaps = [gap for answer in answers for gap in mismatch(answer.old, answer.sampled[: len(answer.old)])]
    return Facts(
        groups=len(groups),
        same=sum(_compared(group) and spread([one.total for one in group]) <= EQUAL for group in groups),
        answers=len(answers),
        truncated=sum(answer.truncated for answer in answers),
        reward=mean(totals),
        entropy=mean(surprise),
        mismatch=mean(gaps),
        kl=mean([kl for answer in answers for kl in _divergence(answer)]),
        unscored=sum(bool(answer.scores) and answer.total is None for answer in answers),
    )


def _compared(group: Group) -> bool:
    """Whether answers of the group could have been worth different things."""
    return len(group) > 1 and bool(group[0].scores)


def _divergence(answer: Answer) -> list[float]:
    """From the reference, each token of an answer (k3: Schulman 2020, "Approximating KL divergence")."""
    gaps = [a - b for a, b in zip(answer.reference, answer.old or answer.sampled, strict=False)]
    return [math.exp(min(gap, 20.0)) - gap - 1.0 for gap in gaps]


def logged(groups: Sequence[Group], known: Facts) -> dict[str, float]:
    """The figures of metrics.jsonl; what could not be known is not a number."""
    answers = [answer for group in groups for answer in group]
    lengths = [answer.completion.completion_tokens for answer in answers] or [0]
    made = {
        "reward": known.reward,
        "reward_std": mean([spread([answer.total for answer in group]) for group in groups]),
        "frac_reward_zero_std": known.same / max(known.groups, 1),
        "unscored": float(sum(answer.total is None for answer in answers)),
        "completions/mean_length": mean([float(length) for length in lengths]),
        "completions/max_length": float(max(lengths)),
        "completions/clipped_ratio": known.truncated / max(known.answers, 1),
        "entropy": known.entropy,
        "sampling_mismatch": known.mismatch,
        "rollout_kl": known.kl,
    }
    for name, scores in _by_reward(answers).items():
        made[f"rewards/{name}/mean"] = mean(scores)
        made[f"rewards/{name}/std"] = spread(scores)
    absent = ["sampling_mismatch", "rollout_kl"]
    if not any(answer.scores for answer in answers):  # there are no rewards
        absent += ["reward"]
        for name in ("reward_std", "frac_reward_zero_std", "unscored"):
            made.pop(name)
    return {name: math.nan if v is None else v for name, v in made.items() if v is not None or name not in absent}


def _by_reward(answers: Sequence[Answer]) -> Mapping[str, list[float]]:
    found: dict[str, list[float]] = {}
    for answer in answers:
        for name, score in answer.scores.items():
            found.setdefault(name, [])
            if score is not None:
                found[name].append(score)
    return found


def mean(values: Sequence[float]) -> float | None:
    """None of nothing."""
    return math.fsum(values) / len(values) if values else None
