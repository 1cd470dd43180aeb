"""How sure a score is: 95% intervals of a share of right answers (Wilson 1927; with several answers to a question, for
as many independent ones as these are worth, Kish 1965) and of a mean, and pass@k (Chen et al. 2021, arXiv 2107.03374).
"""

import math
from collections.abc import Sequence

Z = 1.959964  # 97.5% of a standard normal distribution


def wilson(right: float, count: float) -> tuple[float, float]:
    """The interval of a share; (0, 1) when nothing was counted."""
    if not count:
        return 0.0, 1.0
    share, square = right / count, Z * Z / count
    middle = (share + square / 2) / (1 + square)
    half = Z * math.sqrt(share * (1 - share) / count + square / (4 * count)) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """The normal interval of a mean."""
    count = len(values)
    mean = sum(values) / count
    if count < 2:
        return mean, mean
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / (count - 1))
    half = Z * spread / math.sqrt(count)
    return mean - half, mean + half


def pass_at(k: int, samples: int, right: int) -> float:
    """The chance that one of k answers is right, without bias, when `right` of `samples` answers were."""
    if samples - right < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / number for number in range(samples - right + 1, samples + 1))


def summary(
    scores: Sequence[float | None], questions: Sequence[object] | None = None
) -> dict[str, float | int | str | list[float]]:
    """Figures of one reward: mean and its interval over the scored answers, "18/20" where all scores are 0 or 1.

    Args:
        questions: which question each answer is to. Answers to one question are no independent draws: where there are
            several to one, the interval is by the questions' means, and `questions` tells how many these are.
    """
    known = [score for score in scores if score is not None]
    if not known:
        return {"scored": 0, "unscored": len(scores)}
    made: dict[str, float | int | str | list[float]] = {"mean": sum(known) / len(known)}
    groups = _by_question(scores, questions) if questions is not None else [[score] for score in known]
    if all(score in (0.0, 1.0) for score in known):
        made["right"] = f"{int(sum(known))}/{len(known)}"
    if "right" in made or len(known) > 1:  # one value that is no share tells nothing of others
        made["interval"] = list(interval(groups))
    if len(groups) < len(known):
        made["questions"] = len(groups)
    return {**made, "scored": len(known), "unscored": len(scores) - len(known)}


def _by_question(scores: Sequence[float | None], questions: Sequence[object]) -> list[list[float]]:
    """The scored answers of each question."""
    held: dict[object, list[float]] = {}
    for score, question in zip(scores, questions, strict=True):
        if score is not None:
            held.setdefault(question, []).append(score)
    return list(held.values())


def interval(groups: Sequence[Sequence[float]]) -> tuple[float, float]:
    """The interval over questions, each with its scored answers, at least one; over the answers of one question alone.

    That of a share is within 0 and 1.
    """
    means = [sum(scores) / len(scores) for scores in groups]
    if all(score in (0.0, 1.0) for scores in groups for score in scores):
        return _share_interval(means, sum(map(len, groups)))
    return mean_interval(means if len(means) > 1 else groups[0])


def _share_interval(means: Sequence[float], answers: int) -> tuple[float, float]:
    """By the shares of the questions: the nearer these are to each other, the more is each answer worth."""
    count = len(means)
    if all(mean in (0.0, 1.0) for mean in means):
        return wilson(int(sum(means)), count)
    share = sum(means) / count
    spread = sum((mean - share) ** 2 for mean in means) / count
    independent = min(answers, count * share * (1 - share) / spread) if spread else answers
    return wilson(share * independent, independent)
