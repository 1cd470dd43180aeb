"""The planned updates of a data set as one device sees them: its micro-batches, and the figures of the whole update."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from runner.core.types import Encoded
from runner.data.collate import MicroBatch, collate, trained
from runner.data.micro_batches import cost, cut
from runner.data.updates import UpdatePlan
from runner.training.algorithm import Algorithm


@dataclass(frozen=True)
class Size:
    """Figures of an update over all devices. slots: tokens computed, with padding and fillers."""

    rows: int = 0
    tokens: int = 0
    trained_tokens: int = 0
    slots: int = 0


@dataclass(frozen=True)
class UpdateBatch:
    """One optimizer update of one device.

    number: from 0. micros: this device's micro-batches. totals: the algorithm's, over the whole update.
    epoch: epochs done with this update. origins: (source, row) of every row of the update. figures: to be logged
    beside those of the loss. budget: tokens of a micro-batch when it was cut. An update without micro-batches has no
    gradient and leaves the weights as they are.
    """

    number: int
    micros: tuple[MicroBatch, ...]
    totals: Mapping[str, float]
    size: Size
    epoch: float
    origins: tuple[tuple[str, int], ...]
    figures: Mapping[str, float] = field(default_factory=dict)
    budget: int = 0


@dataclass(frozen=True)
class Cutting:
    """How work is cut: tokens of a micro-batch, packed or padded, over how many devices, for which of them."""

    budget: int
    packed: bool = False
    world: int = 1
    rank: int = 0


class PlannedUpdates:
    """A map-style data set whose items are updates, for the data loader of one device."""

    def __init__(self, sequences: Sequence[Encoded], plan: UpdatePlan, algorithm: Algorithm, cutting: Cutting) -> None:
        self.sequences, self.plan, self.algorithm, self.cutting = sequences, plan, algorithm, cutting

    def __len__(self) -> int:
        return self.plan.total

    @property
    def digest(self) -> str:
        """Tells plans of other data, batches or seeds apart."""
        return self.plan.digest

    def __getitem__(self, number: int) -> UpdateBatch:
        chosen, epoch = self.plan.update(number), self.plan.epoch_after(number)
        return batch(number, chosen, self.sequences, self.plan.rows, self.algorithm, self.cutting, epoch)


def batch(
    number: int, chosen: Sequence[int], sequences: Sequence[Encoded], rows: Sequence[int],
    algorithm: Algorithm, cutting: Cutting, epoch: float = 0.0, idle: Sequence[int] = (),
) -> UpdateBatch:  # fmt: skip
    """Cut chosen sequences and make this device's tensors.

    Args:
        idle: sequences that count in the totals and have no gradient, so that they need not be run.
    """
    lengths = {i: len(sequences[i].input_ids) for i in chosen}
    parts = cut(lengths, units(chosen, rows, algorithm.whole_rows), cutting.budget, cutting.world, cutting.packed)
    micros = tuple(
        collate([sequences[i] for i in micro.sequences], micro.sequences, cutting.packed, micro.filler)
        for micro in parts[cutting.rank]
    )
    totals: dict[str, float] = {}
    for i in (*chosen, *idle):
        for name, amount in algorithm.measure(sequences[i]).items():
            totals[name] = totals.get(name, 0.0) + amount
    size = Size(
        rows=len({rows[i] for i in (*chosen, *idle)}),
        tokens=sum(lengths.values()),
        trained_tokens=sum(len(trained(sequences[i])) for i in chosen),
        slots=sum(cost(lengths, [micro.sequences], cutting.packed) for part in parts for micro in part),
    )
    origins = tuple(dict.fromkeys((sequences[i].source, sequences[i].row) for i in (*chosen, *idle)))
    return UpdateBatch(number, micros, totals, size, epoch, origins, budget=cutting.budget)


def units(chosen: Sequence[int], rows: Sequence[int], whole_rows: bool) -> list[tuple[int, ...]]:
    """What must not be cut apart: each sequence, or all sequences of each row."""
    if not whole_rows:
        return [(i,) for i in chosen]
    held: dict[int, list[int]] = {}
    for i in chosen:
        held.setdefault(rows[i], []).append(i)
    return [tuple(unit) for unit in held.values()]
