"""What stages share that learn which answers are preferred: no dropout, and a reference where the algorithm has one."""

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from runner.core.job import Job
from runner.core.schema import component
from runner.core.specs import Model
from runner.data.judged import Rows
from runner.stages._training import Training

if TYPE_CHECKING:
    from runner.data.prepare import Encodings
    from runner.data.updates import UpdatePlan
    from runner.models.locate import Located
    from runner.stages._known import Known

T = TypeVar("T")


@component
class Preference(Training):
    """Keys of a training on preferences. disable_dropout: in the whole model, adapters included."""

    disable_dropout: bool = True
    rows: ClassVar[Rows] = "pairs"
    rates: ClassVar[tuple[float, float]] = (1e-5, 1e-6)

    def _learner(self, located: "Located", model: Model) -> Any:
        from runner.models.dropout import without_dropout

        made = super()._learner(located, model)
        return without_dropout(made) if self.disable_dropout else made

    def _known(self, plan: "UpdatePlan", train: "Encodings", kept: "Encodings", job: Job) -> "Known":
        """The log-probability of each sequence under the weights of the start, computed before the first update."""
        from runner.stages._known import Known, asked
        from runner.training.reference import Reference

        if getattr(self, "reference", "free") == "free":
            return super()._known(plan, train, kept, job)
        reference = Reference([train, kept], job, [asked(plan), range(len(kept.sequences))])
        return Known(plan, reference.of(0), reference.of(1), reference.prepare)


def own_keys(kind: type[T], stage: Any) -> T:
    """An algorithm, made of the keys that a stage has from it."""
    return kind(**{field.name: getattr(stage, field.name) for field in dataclasses.fields(kind)})  # type: ignore[arg-type]
