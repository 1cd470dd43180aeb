"""Sequences that a reward model gives a number: read where the answer's last token stands, its end-of-turn token.

One place is wanted of each sequence, so that token is repeated behind it as the only trained one: it is predicted from
where the number is read, and what it is plays no part.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import overload

from runner.core.types import Encoded

UNTRAINED = -100


class Scored(Sequence[Encoded]):
    """As many sequences as `own` has, each up to its last trained token."""

    def __init__(self, own: Sequence[Encoded]) -> None:
        self.own = own

    def __len__(self) -> int:
        """How many there are."""
        return len(self.own)

    @overload
    def __getitem__(self, place: int) -> Encoded: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Encoded]: ...
    def __getitem__(self, place: int | slice) -> Encoded | Sequence[Encoded]:
        """One sequence, or a list of some."""
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        one = self.own[place]
        end = max(i for i, label in enumerate(one.labels) if label != UNTRAINED) + 1
        ids, last = one.input_ids[:end], one.input_ids[end - 1]
        return replace(one, input_ids=[*ids, last], labels=[*[UNTRAINED] * end, last], weights=None)
