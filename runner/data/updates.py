"""Which rows make which update: the plan of a training, known before it starts and the same on any number of devices.

A pure function of lengths, rows, batch, seed and epoch. Rows are shuffled by seed and epoch; all sequences of a row
stay in one update; an update holds so many rows, so many packs, or as much as fits into its tokens. Packs are planned
over the whole data set (`packing.py`), and each epoch deals its rows to them anew. It never looks at devices or
budgets: those decide only how an update is cut (`micro_batches.py`).
"""

import hashlib
import math
import random
from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.core.specs import Batch
from runner.data import packing

if TYPE_CHECKING:
    import numpy

ROWS = 16  # rows of an update when the batch says nothing
LOOK_AHEAD = 256  # rows tried for a hole in an update of tokens, before it is closed


@dataclass(frozen=True)
class UpdatePlan:
    """The sequences of every update of a training.

    lengths: tokens of each sequence. rows: the row that each sequence comes from.
    epochs: passes over the rows, broken numbers too. max_updates: so many updates instead, over as many passes as it
    takes. max_length: tokens of a pack. beside: a folder of the encoded rows, where their packing is kept.
    """

    lengths: Sequence[int]
    rows: Sequence[int]
    batch: Batch
    seed: int
    epochs: float = 1.0
    max_updates: int | None = None
    max_length: int | None = None
    beside: Path | None = field(default=None, compare=False)
    _made: dict[int, list[tuple[int, ...]]] = field(default_factory=dict, repr=False, compare=False)

    def updates(self, epoch: int) -> list[tuple[int, ...]]:
        """The sequences (as indices) of each update of an epoch."""
        if epoch not in self._made:
            made = [tuple(i for row in update for i in self._sequences_of[row]) for update in self._fill(epoch)]
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
            made = self._alike or len(self.updates(len(counts)))
            share = 1.0 if wanted is not None else min(1.0, self.epochs - len(counts))
            made = math.ceil(made * share - 1e-9)
            counts.append(made if wanted is None else min(made, wanted - sum(counts)))
        return counts

    @property
    def _alike(self) -> int | None:
        """How many updates each epoch has, where all have as many."""
        if self.batch.packs:
            packs = int(self._packing[0].max(initial=-1)) + 1
            alike = all(besides == 0 for _, besides in self._shares.values())
            return math.ceil(packs / self.batch.packs) if alike else None
        return None if self.batch.tokens else math.ceil(len(self._sequences_of) / (self.batch.rows or ROWS))

    def _where(self, number: int) -> tuple[int, int]:
        if not 0 <= number < self.total:
            raise IndexError(f"update {number} of {self.total}")
        for epoch, count in enumerate(self._counts):
            if number < count:
                return epoch, number
            number -= count
        raise AssertionError("counts do not add up")

    def _fill(self, epoch: int) -> Iterator[Sequence[int]]:
        """The rows of each update."""
        chance = random.Random(f"{self.seed}:{epoch}")
        if self.batch.packs:
            parts = self._packed(epoch)
            chance.shuffle(parts)
            yield from _fit(parts, self.batch.packs)
            return
        order = list(self._sequences_of)
        chance.shuffle(order)
        if self.batch.tokens:
            yield from _fit([([row], self._sizes[row]) for row in order], self.batch.tokens)
        else:
            step = self.batch.rows or ROWS
            yield from (order[start : start + step] for start in range(0, len(order), step))

    @cached_property
    def _sizes(self) -> dict[int, int]:
        """Tokens of each row."""
        return {row: sum(self.lengths[i] for i in held) for row, held in self._sequences_of.items()}

    @cached_property
    def _shares(self) -> dict[int, tuple[int, int]]:
        """What a row puts into a pack that it may share, and how many packs it fills besides: 0 for most rows."""
        size = self.max_length
        assert size is not None, "packs are counted in sequences of max_length"
        made = {row: (tokens, 0) for row, tokens in self._sizes.items()}
        for row, (tokens, _) in made.items():
            if tokens > size:
                lengths = [self.lengths[i] for i in self._sequences_of[row]]
                filled = packing.fills(lengths, size)
                # a sequence that no pack holds: as much as no update has, so that its row is one of its own
                made[row] = (min(filled), len(filled) - 1) if max(filled) <= size else (size, self.batch.packs or 0)
        return made

    @cached_property
    def _packing(self) -> tuple["numpy.ndarray[Any, Any]", "numpy.ndarray[Any, Any]"]:
        """The pack of each slot, and what each row puts into it."""
        import numpy as np

        sizes = np.asarray([shared for shared, _ in self._shares.values()], dtype=np.int64)
        return packing.kept_slots(sizes, self.max_length or 0, self.beside), sizes

    def _packed(self, epoch: int) -> list[tuple[list[int], int]]:
        """Rows that lie together, and how many packs they take: one, and those that they fill besides."""
        slots, sizes = self._packing
        rows, most = list(self._shares), self.batch.packs or 0
        made: list[tuple[list[int], int]] = []
        for pack in packing.dealt(sizes, slots, f"{self.seed}:{epoch}"):
            together: list[int] = []
            count = 1
            for row in (rows[place] for place in pack.tolist()):
                besides = self._shares[row][1]
                if besides and count + besides > most:
                    made.append(([row], 1 + besides))  # it shares no pack: the update would be too large
                else:
                    together.append(row)
                    count += besides
            if together:
                made.append((together, count))
        return made


def _fit(parts: Sequence[tuple[list[int], int]], size: int) -> Iterator[list[int]]:
    """Updates of parts that together are at most `size`; a part that is larger is an update of its own.

    parts: rows, and how much they are. One that finds no room waits for the next update and comes first there.
    """
    waiting = deque(parts)
    while waiting:
        room = size
        taken: list[int] = []
        late: list[tuple[list[int], int]] = []
        while waiting and room > 0 and len(late) < LOOK_AHEAD:
            rows, amount = waiting.popleft()
            if amount <= room or not taken:
                taken += rows
                room -= amount
            else:
                late.append((rows, amount))
        waiting.extendleft(reversed(late))
        yield taken
