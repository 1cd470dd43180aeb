"""KTO: a model learns from answers one by one, each with a label that says whether it is a good one."""

from typing import TYPE_CHECKING, ClassVar

from runner.algorithms.kto import KL
from runner.algorithms.kto import Kto as Loss
from runner.core.job import Job
from runner.core.schema import component
from runner.data.judged import DESIRABLE, Rows
from runner.stages._device import first
from runner.stages._preference import Preference, own_keys

if TYPE_CHECKING:
    from runner.data.prepare import Encodings
    from runner.data.updates import UpdatePlan
    from runner.stages._known import Known
    from runner.training.algorithm import Algorithm


@component
class Kto(Preference, Loss):
    """Learning from labelled answers. Keys and defaults of the loss are those of TRL's KTOConfig."""

    rows: ClassVar[Rows] = "labels"

    def algorithm(self) -> "Algorithm":
        """KTO with this stage's keys."""
        return own_keys(Loss, self)

    def _known(self, plan: "UpdatePlan", train: "Encodings", kept: "Encodings", job: Job) -> "Known":
        """The reference of the answers, and of each question with an answer to another one."""
        from runner.data.mismatch import Mismatched
        from runner.data.prepare import Encodings
        from runner.stages._known import Known, KnownWithBaseline, asked
        from runner.training.reference import Reference

        if first():
            print(self._balance([one.values[DESIRABLE] for one in train.sequences]), flush=True)
        numbers, every = asked(plan), range(len(kept.sequences))
        if self.loss_type != "kto":
            plain = Reference([train, kept], job, [numbers, every])
            return Known(plan, plain.of(0), plain.of(1), plain.prepare)

        def others(held: Encodings, what: str) -> Encodings:
            if not held.sequences:
                return held
            return Encodings(Mismatched(held.sequences, job.seed, self.max_length, what), held.rows)

        apart = [others(train, "mix.datasets"), others(kept, "mix.validation")]
        reference = Reference([train, kept, *apart], job, [numbers, every, numbers, every])
        parts = [reference.of(part) for part in range(4)]
        return KnownWithBaseline(plan, parts[0], parts[1], reference.prepare, parts[2], parts[3], KL)

    def _balance(self, labels: "list[float]") -> str:
        """How both kinds of answers count, and what would even them out."""
        good, bad = int(sum(labels)), int(len(labels) - sum(labels))
        told = f"{good} desirable answers, {bad} undesirable ones"
        if not good or not bad:
            return f"{told}: all are of one kind, so the model learns no difference"
        ratio = self.desirable_weight * good / max(self.undesirable_weight * bad, 1e-9)
        if 3 / 4 <= ratio <= 4 / 3:
            return told
        return (
            f"{told}: by number and weight {ratio:.2f} to 1, and 1 to 1.33 is advised. "
            f"For example: undesirable_weight={self.desirable_weight * good / bad:.3g}"
        )
