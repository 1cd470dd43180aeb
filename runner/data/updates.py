"""Which rows make which update: the plan of a training, known before it starts and the same on any number of devices.

A pure function of lengths, rows, batch, seed and epoch. Rows are shuffled by seed and epoch; all sequences of a row
stay in one update; an update holds so many rows, or as much as fits into its packs or its tokens. It never looks at
devices or budgets: those decide only how an update is cut (`micro_batches.py`).
"""

import hashlib
import math
import random
from array import array
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from runner.core.specs import Batch

ROWS = 16  # rows of an update when the batch says nothing
LOOK_AHEAD = 256  # rows tried for a hole in an update of packs or tokens, before it is closed


@dataclass(frozen=True)
class UpdatePlan:
    """The sequences of every update of a training.

    lengths: tokens of each sequence. rows: the row that each sequence comes from.
    epochs: passes over the rows, broken numbers too. max_updates: so many updates instead, over as many passes as it
    takes. max_length: tokens of a pack.
    """

    lengths: Sequence[int]
    rows: Sequence[int]
    batch: Batch
    seed: int
    epochs: float = 1.0
    max_updates: int | None = None
    max_length: int | None = None
    _made: dict[int, list[tuple[int, ...]]] = field(default_factory=dict, repr=False, compare=False)

    def updates(self, epoch: int) -> list[tuple[int, ...]]:
        """The sequences (as indices) of each update of an epoch."""
        if epoch not in self._made:
            order = list(self._sequences_of)
            random.Random(f"{self.seed}:{epoch}").shuffle(order)
            made = [tuple(i for row in update for i in self._sequences_of[row]) for update in self._fill(order)]
            while len(self._made) > 1:  # the epoch that is running and the next one
                self._made.pop(next(iter(self._made)))
            self._made[epoch] = made
        return self._made[epoch]

    def update(self, number: int) -> tuple[int, ...]:
        """The sequences of update `number`, counted from 0 over all epochs."""
        epoch, place = self._where(number)
        return self.updates(epoch)[place]

    def epoch_after(self, number: int) -> float:
        """How many epochs are done once update `number` (from 0) is."""
        epoch, place = self._where(number)
        return epoch + (place + 1) / len(self.updates(epoch))

    @cached_property
    def total(self) -> int:
        """Updates of the whole training."""
        return sum(self._counts)

    @cached_property
    def digest(self) -> str:
        """Sixteen hex digits over what decides the updates; how they are cut does not count."""
        batch = (self.batch.rows, self.batch.packs, self.batch.tokens, self.max_length if self.batch.packs else None)
        mark = hashlib.sha256(repr((batch, self.seed, self.epochs, self.max_updates)).encode())
        for numbers in (self.lengths, self.rows):
            mark.update(array("q", numbers).tobytes())
        return mark.hexdigest()[:16]

    @cached_property
    def _sequences_of(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for sequence, row in enumerate(self.rows):
            found.setdefault(row, []).append(sequence)
        return found

    @cached_property
    def _counts(self) -> list[int]:
        """Updates of each epoch."""
        counts: list[int] = []
        wanted = self.max_updates
        while self._sequences_of and (sum(counts) < wanted if wanted is not None else len(counts) < self.epochs):
            made = len(self.updates(len(counts))) if self.batch.packs or self.batch.tokens else self._by_rows
            share = 1.0 if wanted is not None else min(1.0, self.epochs - len(counts))
            made = math.ceil(made * share - 1e-9)
            counts.append(made if wanted is None else min(made, wanted - sum(counts)))
        return counts

    @property
    def _by_rows(self) -> int:
        return math.ceil(len(self._sequences_of) / (self.batch.rows or ROWS))

    def _where(self, number: int) -> tuple[int, int]:
        if not 0 <= number < self.total:
            raise IndexError(f"update {number} of {self.total}")
        for epoch, count in enumerate(self._counts):
            if number < count:
                return epoch, number
            number -= count
        raise AssertionError("counts do not add up")

    def _fill(self, order: list[int]) -> Iterator[list[int]]:
        """The rows of each update, in shuffled order as far as they fit."""
        if self.batch.tokens:
            yield from self._fit(order, 1, self.batch.tokens)
        elif self.batch.packs:
            assert self.max_length is not None, "packs are counted in sequences of max_length"
            yield from self._fit(order, self.batch.packs, self.max_length)
        else:
            step = self.batch.rows or ROWS
            yield from (order[start : start + step] for start in range(0, len(order), step))

    def _fit(self, order: list[int], packs: int, size: int) -> Iterator[list[int]]:
        """Updates of at most `packs` packs of `size` tokens; a row that is larger than that is an update of its own.

        A row that finds no room waits for the next update and comes first there.
        """
        waiting = deque(order)
        while waiting:
            room = [size] * packs
            taken: list[int] = []
            late: list[int] = []
            while waiting and len(late) < LOOK_AHEAD:
                row = waiting.popleft()
                left = _place(room, [self.lengths[i] for i in self._sequences_of[row]])
                if left is not None:
                    room = left
                    taken.append(row)
                elif not taken:
                    taken.append(row)
                    break
                else:
                    late.append(row)
            waiting.extendleft(reversed(late))
            yield taken


def _place(room: list[int], lengths: list[int]) -> list[int] | None:
    """What is left of each pack (ascending) when the lengths are put where they fit most tightly; None: no room."""
    left = list(room)
    for length in sorted(lengths, reverse=True):
        tightest = bisect_left(left, length)
        if tightest == len(left):
            return None
        insort(left, left.pop(tightest) - length)
    return left
