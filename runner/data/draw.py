"""Which rows of a dataset are taken: a random part, or whole copies and a random rest; some kept aside for validation.

Each dataset draws from a seed of its own, so that adding one to a mix changes nothing for another. A row that is kept
aside is in no copy that is trained on.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Drawn:
    """Numbers of rows, those with copies more than once."""

    train: list[int]
    validation: list[int]


def draw(count: int, take: int | None, aside: int, seed: str) -> Drawn:
    """Draw from `count` rows.

    Args:
        take: rows for both together; None for each row once. aside: how many of them are for validation, fewer than
            `count`.
    """
    generator = random.Random(seed)
    total = count if take is None else take
    order = list(range(count))
    if aside:
        generator.shuffle(order)
    validation, left = sorted(order[:aside]), sorted(order[aside:])
    copies, rest = divmod(total - aside, len(left))
    return Drawn(left * copies + sorted(generator.sample(left, rest)), validation)


def shares(sizes: Sequence[int], total: int) -> list[int]:
    """`total` shared out in proportion to sizes, by largest remainders; never more than a size less one."""
    exact = [size * total / sum(sizes) for size in sizes]
    made = [min(int(part), size - 1) for part, size in zip(exact, sizes, strict=True)]
    order = sorted(range(len(sizes)), key=lambda i: (int(exact[i]) - exact[i], i))
    while room := [i for i in order if made[i] < sizes[i] - 1][: total - sum(made)]:  # again where small sizes are full
        for i in room:
            made[i] += 1
    return made


def by_weight(sizes: Sequence[int], weights: Sequence[float]) -> list[int]:
    """Rows of each dataset so that they stand in the proportion of their weights and the scarcest is used up once."""
    total = min(size / weight for size, weight in zip(sizes, weights, strict=True))
    return [max(1, min(size, round(total * weight))) for size, weight in zip(sizes, weights, strict=True)]
