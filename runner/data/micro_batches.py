"""How one update is cut for the devices: micro-batches within a token budget, even in cost, as many on each device.

Padded batches group sequences of like length, so that the budget (which counts padding) holds few empty places. Packed
batches lay sequences one after the other and are filled evenly. Every device gets the same number of micro-batches, by
zero-weight fillers where work runs out: each device knows all counts from this pure function and none ever waits.
"""

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

OVERHEAD = 16  # what starting a micro-batch costs, in tokens: seen with a small model on a few cores

Lengths = Sequence[int] | Mapping[int, int]
Unit = tuple[int, ...]  # sequences that must share a micro-batch: one, or the two of a preference pair


@dataclass(frozen=True)
class Micro:
    """The sequences of one micro-batch, as indices. filler: it carries no weight and counts for nothing."""

    sequences: tuple[int, ...]
    filler: bool = False


def cut(lengths: Lengths, units: Sequence[Unit], budget: int, world: int, packed: bool) -> list[list[Micro]]:
    """Cut an update into micro-batches for each of `world` devices.

    Args:
        lengths: tokens of each sequence, by index. budget: tokens of a micro-batch, with padding where padded; only a
            single unit that is longer goes above it.

    Returns:
        For each device its micro-batches, most costly first; the same number for each.
    """
    if not units:
        return [[] for _ in range(world)]
    pieces = _packs(lengths, units, budget, world) if packed else _grids(lengths, units, budget, world)
    dealt = _deal(pieces, [cost(lengths, piece, packed) for piece in pieces], world)
    shortest = min(units, key=lambda unit: (sum(lengths[i] for i in unit), unit))
    rounds = max(len(part) for part in dealt)
    made = [[Micro(tuple(i for unit in piece for i in unit)) for piece in part] for part in dealt]
    return [part + [Micro(shortest, filler=True)] * (rounds - len(part)) for part in made]


def cost(lengths: Lengths, piece: Sequence[Unit], packed: bool) -> int:
    """Places that a micro-batch takes: its tokens, and its padding where padded."""
    sizes = [lengths[i] for unit in piece for i in unit]
    return sum(sizes) if packed else len(sizes) * max(sizes)


def _grids(lengths: Lengths, units: Sequence[Unit], budget: int, world: int) -> list[list[Unit]]:
    """Contiguous groups of the units sorted by length, of least padding and fewest starts (dynamic programming)."""
    order = sorted(units, key=lambda unit: (-max(lengths[i] for i in unit), unit))
    best: list[tuple[int, int]] = [(0, 0)] * (len(order) + 1)  # cost of what follows, where the next group starts
    for start in range(len(order) - 1, -1, -1):
        longest, count = max(lengths[i] for i in order[start]), 0
        for end in range(start + 1, len(order) + 1):
            count += len(order[end - 1])
            if end > start + 1 and count * longest > budget:
                break
            total = count * longest + OVERHEAD + best[end][0]
            if end == start + 1 or total <= best[start][0]:
                best[start] = (total, end)
    pieces, start = [], 0
    while start < len(order):
        pieces.append(order[start : best[start][1]])
        start = best[start][1]
    return _even(lengths, pieces, world)


def _even(lengths: Lengths, pieces: list[list[Unit]], world: int) -> list[list[Unit]]:
    """Halve the most costly groups until each device has as many."""
    while len(pieces) % world:
        large = max(pieces, key=lambda piece: (len(piece) > 1, cost(lengths, piece, packed=False), piece))
        if len(large) == 1:
            break
        pieces.remove(large)
        pieces += [large[: len(large) // 2], large[len(large) // 2 :]]
    return pieces


def _packs(lengths: Lengths, units: Sequence[Unit], budget: int, world: int) -> list[list[Unit]]:
    """The fewest packs, as many for each device, that hold the units within the budget: filled evenly, or where those
    are too many in the order that the units have, which is that of the packs of a plan (`batch.packs`).
    """
    in_order = _in_order(lengths, units, budget)
    count = math.ceil(sum(lengths[i] for unit in units for i in unit) / budget)
    while True:
        count = math.ceil(count / world) * world
        packs = _spread(lengths, units, min(count, len(units)))
        if all(len(pack) == 1 or cost(lengths, pack, packed=True) <= budget for pack in packs):
            return packs
        if len(in_order) <= count:
            return in_order
        count += 1


def _in_order(lengths: Lengths, units: Sequence[Unit], budget: int) -> list[list[Unit]]:
    """Each unit into the pack of the one before it, or where that is full into a new one."""
    packs: list[list[Unit]] = []
    room = 0
    for unit in units:
        size = sum(lengths[i] for i in unit)
        if size > room:
            packs.append([])
            room = budget
        packs[-1].append(unit)
        room -= size
    return packs


def _spread(lengths: Lengths, units: Sequence[Unit], count: int) -> list[list[Unit]]:
    """Longest first, each into the pack that is the emptiest so far."""
    packs: list[list[Unit]] = [[] for _ in range(count)]
    heap = [(0, number) for number in range(count)]
    for unit in sorted(units, key=lambda unit: (-sum(lengths[i] for i in unit), unit)):
        filled, number = heapq.heappop(heap)
        packs[number].append(unit)
        heapq.heappush(heap, (filled + sum(lengths[i] for i in unit), number))
    return packs


def _deal(pieces: list[list[Unit]], costs: list[int], world: int) -> list[list[list[Unit]]]:
    """Most costly first, each to the device that has the least work and still room in its rounds."""
    rounds = math.ceil(len(pieces) / world)
    parts: list[list[list[Unit]]] = [[] for _ in range(world)]
    load = [0] * world
    for number in sorted(range(len(pieces)), key=lambda number: (-costs[number], pieces[number])):
        device = min((d for d in range(world) if len(parts[d]) < rounds), key=lambda d: (load[d], d))
        parts[device].append(pieces[number])
        load[device] += costs[number]
    return parts
