"""Sequences that a reward model gives a number: read where the answer's last token stands, its end-of-turn token.

One place is wanted of each sequence, so that token is repeated behind it as the only trained one: it is predicted from
where the number is read, and what it is plays no part.
"""

from collections.abc import Sequence
from dataclasses import replace

from runner.core.lazy import Lazy
from runner.core.types import UNTRAINED, Encoded


class Scored(Lazy[Encoded]):
    """As many sequences as `own` has, each up to its last trained token."""

    def __init__(self, own: Sequence[Encoded]) -> None:
        self.own = own

    def __len__(self) -> int:
        """How many there are."""
        return len(self.own)

    def one(self, place: int) -> Encoded:
        """One sequence."""
        one = self.own[place]
        end = max(i for i, label in enumerate(one.labels) if label != UNTRAINED) + 1
        ids, last = one.input_ids[:end], one.input_ids[end - 1]
        return replace(one, input_ids=[*ids, last], labels=[*[UNTRAINED] * end, last], weights=None)
