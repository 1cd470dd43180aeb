"""Questions with answers that belong to others: what KTO measures against how far a model has moved as a whole.

Each sequence keeps its question and takes the answer of another row, drawn once by the seed; rows of the same question
are passed over where there are others. Refuses data in which no other row is.
"""

import random
from collections.abc import Sequence

from runner.core.errors import DataError
from runner.core.lazy import Lazy
from runner.core.types import UNTRAINED, Encoded

TRIES = 16  # rows looked at for one with another question


class Mismatched(Lazy[Encoded]):
    """As many sequences as `own` has.

    own: each with one answer, the trained part and what follows. what: of which data, for messages.
    max_length: tokens of a sequence; an answer that would go beyond is cut.
    """

    def __init__(self, own: Sequence[Encoded], seed: int, max_length: int | None, what: str) -> None:
        if len(own) < 2:
            raise DataError(
                f"{what}: {len(own)} row, and kto measures against answers to other questions. It takes two rows."
            )
        self.own, self.max_length = own, max_length
        order = list(range(len(own)))
        random.Random(f"{seed}:mismatched").shuffle(order)
        self._next = {number: order[place - 1] for place, number in enumerate(order)}

    def __len__(self) -> int:
        """How many there are."""
        return len(self.own)

    def one(self, place: int) -> Encoded:
        """One sequence."""
        asked = self.own[place]
        start = first_trained(asked)
        question = asked.input_ids[:start]
        other = self._other(place, question)
        begin = first_trained(other)
        weights = None if other.weights is None else [*[0.0] * start, *other.weights[begin:]]
        return Encoded(
            input_ids=[*question, *other.input_ids[begin:]][: self.max_length],
            labels=[*[UNTRAINED] * start, *other.labels[begin:]][: self.max_length],
            weights=None if weights is None else weights[: self.max_length],
            source=asked.source,
            row=asked.row,
            turn=asked.turn,
        )

    def _other(self, place: int, question: list[int]) -> Encoded:
        """A row with another question, or at least another row."""
        number, first = self._next[place], self.own[self._next[place]]
        for _ in range(min(TRIES, len(self.own) - 1)):
            found = self.own[number]
            if number != place and found.input_ids[: first_trained(found)] != question:
                return found
            number = self._next[number]
        return first


def first_trained(sequence: Encoded) -> int:
    """Where the answer begins."""
    return next(place for place, label in enumerate(sequence.labels) if label != UNTRAINED)
