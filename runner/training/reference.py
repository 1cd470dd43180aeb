"""What the weights that a training starts from make of the sequences it learns from: one log-probability a sequence.

Computed before the first update by the model itself, so no second model is held, and written down block by block as
`reference.jsonl`, so that a training that was killed goes on where it was. Refuses to go on from a checkpoint when the
file is gone: the weights that made it are no longer loaded then.
"""

import hashlib
import json
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from runner.core.artifact import write_whole
from runner.core.errors import DataError
from runner.core.job import Job
from runner.core.lazy import Lazy
from runner.core.types import Encoded
from runner.data.collate import trained
from runner.data.prepare import Encodings
from runner.training import ledger

if TYPE_CHECKING:
    from runner.training.algorithm import Learner

FILE = "reference.jsonl"
VALUE = "reference"
BLOCK = 256  # sequences that are computed, and written down, at once


class Reference:
    """Log-probabilities of the trained tokens of sequences, each token by its weight.

    parts: sequences that may be asked for; a number counts through all of them. needed: places, in each part, of those
    that will be. known: what has been computed, by number.
    """

    def __init__(self, parts: Sequence[Encodings], job: Job, needed: Sequence[Iterable[int]]) -> None:
        self.parts, self.job, self.file = parts, job, job.folder / FILE
        self.starts = list(accumulate((len(part.sequences) for part in parts), initial=0))
        self.needed = [
            start + place for start, places in zip(self.starts, needed, strict=False) for place in sorted(set(places))
        ]
        self.known: dict[int, float] = {}

    def sequence(self, number: int) -> Encoded:
        """A sequence by its number."""
        part = bisect_right(self.starts, number) - 1
        return self.parts[part].sequences[number - self.starts[part]]

    def of(self, part: int) -> Encodings:
        """A part whose sequences carry the value `reference`, once it is known."""
        return Encodings(Referred(self, part), self.parts[part].rows)

    def prepare(self, learner: "Learner", update: int) -> None:
        """Read what is known and compute the rest, with the weights before update 1.

        Args:
            update: how many updates the weights have seen.

        Raises:
            DataError: something is missing, and the weights have learned since.
        """
        self.known = self._read()
        left = [number for number in self.needed if number not in self.known]
        if left and update:
            raise DataError(
                f"{self.file}: lacks {len(left)} of {len(self.needed)} sequences, and the model has learned for "
                f"{update} updates since. Remove the folder {self.job.folder}, and the same command begins anew."
            )
        first = learner.trainer.is_world_process_zero()
        if left and first:  # what is whole of it, so that nothing is ever written behind half a line
            lines = [{"digest": self._digest()}, _line(list(self.known), self.known)]
            write_whole(self.file, "".join(json.dumps(line) + "\n" for line in lines))
        for start in range(0, len(left), BLOCK):
            learner.stop_if_asked()
            numbers = left[start : start + BLOCK]
            self._compute(numbers, learner)
            if first:
                ledger.append(self.file, _line(numbers, self.known))
                self.job.progress.update(len(self.known), len(self.needed), "reference")

    def _compute(self, numbers: Sequence[int], learner: "Learner") -> None:
        held = [replace(self.sequence(number), values={}) for number in numbers]
        for number, sequence, logprobs in zip(numbers, held, learner.logprobs(held), strict=True):
            pairs = zip(trained(sequence), logprobs, strict=True)
            self.known[number] = sum(weight * logprob for (_, weight), logprob in pairs)

    def _read(self) -> dict[int, float]:
        """What an earlier start wrote, if it was about these sequences; half a line is passed over."""
        known: dict[int, float] = {}
        lines = self.file.read_text(encoding="utf-8").splitlines() if self.file.is_file() else []
        for number, text in enumerate(lines):
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if number == 0 and line.get("digest") != self._digest():
                return {}
            known.update(zip(line.get("sequences", ()), line.get("logprobs", ()), strict=True))
        return known

    def _digest(self) -> str:
        """Of what the numbers depend on: the stage's fingerprint, as one that was stopped early may be given again with
        other data or another model, and what tells one encoding from another.
        """
        mark = hashlib.sha256(self.job.fingerprint.encode())
        for part in self.parts:
            known = getattr(part.sequences, "lengths", ())  # not of sequences that are made of others
            mark.update(array("q", [-1, len(part.sequences), *known]).tobytes())
        return mark.hexdigest()[:16]


def _line(numbers: Sequence[int], known: Mapping[int, float]) -> dict[str, Any]:
    return {"sequences": list(numbers), "logprobs": [known[number] for number in numbers]}


class Referred(Lazy[Encoded]):
    """A part of a reference, each sequence with its log-probability as the value `reference`."""

    def __init__(self, reference: Reference, part: int) -> None:
        self.reference, self.part = reference, part

    def __len__(self) -> int:
        """How many there are."""
        return len(self.reference.parts[self.part].sequences)

    def one(self, place: int) -> Encoded:
        """One sequence."""
        if not 0 <= place < len(self):
            raise IndexError(place)
        sequence = self.reference.parts[self.part].sequences[place]
        known = self.reference.known[self.reference.starts[self.part] + place]
        return replace(sequence, values={**sequence.values, VALUE: known})

    @property
    def lengths(self) -> list[int]:
        """Tokens of each sequence."""
        return self.reference.parts[self.part].lengths
