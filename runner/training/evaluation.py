"""The loss on rows kept aside: the same encoding, weights and loss as in training, over the totals of all of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

from runner.core.types import Encoded
from runner.data.collate import MicroBatch, collate
from runner.data.micro_batches import Micro, cut
from runner.data.prepare import Encodings
from runner.training.algorithm import Algorithm, Learner
from runner.training.planned import Cutting, units


def first_rows(kept: Encodings, most: int | None) -> Encodings:
    """The sequences of at most so many rows; all of them when None."""
    chosen = set(list(dict.fromkeys(kept.rows))[:most])
    places = [place for place, row in enumerate(kept.rows) if row in chosen]
    return Encodings([kept.sequences[place] for place in places], [kept.rows[place] for place in places])


class Evaluation:
    """All rows kept aside as one device sees them, micro-batch by micro-batch. losses: whether their loss is told."""

    losses = True

    def __init__(
        self, sequences: Sequence[Encoded], rows: Sequence[int], algorithm: Algorithm, cutting: Cutting
    ) -> None:
        self.sequences, self.rows, self.algorithm, self.cutting = sequences, rows, algorithm, cutting

    def begin(self, learner: Learner) -> None:
        """Measure with the model of the moment what the loss asks for; nothing here."""

    def recut(self, budget: int) -> None:
        """Micro-batches of up to so many tokens from now on."""
        self.cutting = replace(self.cutting, budget=budget)
        self.__dict__.pop("_part", None)

    @cached_property
    def totals(self) -> Mapping[str, float]:
        """The algorithm's totals over all sequences."""
        found: dict[str, float] = {}
        for sequence in self.sequences:
            for name, amount in self.algorithm.measure(sequence).items():
                found[name] = found.get(name, 0.0) + amount
        return found

    @cached_property
    def _part(self) -> list[Micro]:
        lengths = [len(sequence.input_ids) for sequence in self.sequences]
        held = units(range(len(lengths)), self.rows, self.algorithm.whole_rows)
        return cut(lengths, held, self.cutting.budget, self.cutting.world, self.cutting.packed)[self.cutting.rank]

    def __len__(self) -> int:
        return len(self._part)

    def __iter__(self) -> Iterator[MicroBatch]:
        for micro in self._part:
            chosen = [self.sequences[i] for i in micro.sequences]
            yield collate(chosen, micro.sequences, self.cutting.packed, micro.filler)

    @property
    def judged(self) -> Mapping[str, float]:
        """What else says how good the model is; `eval_reward` then decides which checkpoint is the best."""
        return {}

    @property
    def figures(self) -> dict[str, int]:
        """Rows and tokens evaluated."""
        return {"eval_rows": len(set(self.rows)), "eval_tokens": sum(len(s.input_ids) for s in self.sequences)}
