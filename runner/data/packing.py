"""Which rows share a pack of `max_length` tokens: best fit over a whole data set, in seconds for millions of rows.

Longest first, each into the pack that it fills most. Packs with as much room left are alike, so they are counted by
their room and filled many at a time. What comes out speaks of slots, one for each row in order of size: rows of one
size are alike too, so each epoch deals its rows to the slots anew and no epoch packs anew.
"""

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy

    Numbers = numpy.ndarray[Any, Any]


def slots(sizes: "Numbers", room: int) -> "Numbers":
    """The pack of each slot, packs counted from 0; slot 0 is for the largest row, the last one for the smallest.

    Args:
        sizes: tokens of each row, in any order. room: tokens of a pack; a row that is larger has a pack alone.
    """
    import numpy as np

    falling = np.sort(sizes)[::-1]
    values, starts = np.unique(-falling, return_index=True)
    bounds = [*starts.tolist(), len(falling)]
    pack = np.empty(len(falling), np.int32)
    shelf = _Shelf(room)
    for number, value in enumerate(values.tolist()):
        at, end, size = bounds[number], bounds[number + 1], max(1, -value)
        while at < end:
            taken, each = shelf.take(size, end - at)
            placed = min(end - at, len(taken) * each)
            pack[at : at + placed] = np.repeat(taken, each)[:placed]
            shelf.put(taken, size, each, placed)
            at += placed
    return pack


class _Shelf:
    """Packs by the room that is left in them. some: a number whose bit r says whether any has room r."""

    def __init__(self, room: int) -> None:
        self.room, self.packs, self.some = room, 0, 0
        self.by_room: dict[int, list[Numbers]] = {}
        self.left = 0

    def take(self, size: int, count: int) -> tuple["Numbers", int]:
        """Packs for at most `count` rows of a size, those with the least room that is enough; and how many a pack."""
        import numpy as np

        enough = self.some >> size
        if not enough:
            self.left = max(self.room, size)
            each = self.left // size
            made = np.arange(self.packs, self.packs + -(-count // each), dtype=np.int32)
            self.packs += len(made)
            return made, each
        self.left = size + (enough & -enough).bit_length() - 1
        each = self.left // size
        held = np.concatenate(self.by_room.pop(self.left))
        self.some ^= 1 << self.left
        needed = -(-count // each)
        self._keep(held[needed:], self.left)
        return held[:needed], each

    def put(self, taken: "Numbers", size: int, each: int, placed: int) -> None:
        """Back with the packs that `take` gave, filled: all of them whole but the last."""
        whole, rest = divmod(placed, each)
        self._keep(taken[:whole], self.left - each * size)
        self._keep(taken[whole : whole + 1], self.left - rest * size)

    def _keep(self, packs: "Numbers", left: int) -> None:
        if len(packs) and left:
            self.by_room.setdefault(left, []).append(packs)
            self.some |= 1 << left


def kept_slots(sizes: "Numbers", room: int, folder: Path | None) -> "Numbers":
    """As `slots`, from a file beside the encoded rows if they were packed before; written there if not."""
    import numpy as np

    if folder is None:
        return slots(sizes, room)
    counts = np.bincount(sizes)
    name = hashlib.sha256(counts.astype(np.int64).tobytes()).hexdigest()[:16]
    file = folder / f"packs-{room}-{name}.npy"
    with suppress(OSError, ValueError, EOFError):  # not packed yet, or a file that was cut
        held: Numbers = np.load(file)
        return held
    made = slots(sizes, room)
    side = file.with_name(f".{file.name}.{os.getpid()}.npy")
    with suppress(OSError):  # a cache that may only be read
        np.save(side, made)
        os.replace(side, file)
    return made


def dealt(sizes: "Numbers", pack: "Numbers", seed: str) -> "list[Numbers]":
    """The rows of each pack, as places in `sizes`: rows of one size are dealt at random."""
    import numpy as np

    chance = np.random.RandomState(int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4], "big"))
    rows = chance.permutation(len(sizes))
    rows = rows[np.argsort(-sizes[rows], kind="stable")][np.argsort(pack, kind="stable")]
    return list(np.split(rows, np.cumsum(np.bincount(pack))[:-1])) if len(pack) else []


def fills(lengths: Sequence[int], room: int) -> list[int]:
    """How full each pack is that a row of several sequences takes, if it shares none."""
    import numpy as np

    falling = np.sort(np.asarray(lengths, dtype=np.int64))[::-1]
    return [int(tokens) for tokens in np.bincount(slots(falling, room), falling)]
