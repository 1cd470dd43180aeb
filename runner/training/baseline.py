"""The baseline of KTO, with the model as it stands: of each update, and of each evaluation, before its loss.

How much likelier than under the reference the model finds answers that do not belong to their questions: the mean over
those of the whole update, at least 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from runner.core.types import Encoded
from runner.data.collate import trained
from runner.training.evaluation import Evaluation
from runner.training.planned import Cutting, PlannedUpdates, UpdateBatch
from runner.training.reference import VALUE

if TYPE_CHECKING:
    from runner.training.algorithm import Learner


def baseline(learner: "Learner", sequences: Sequence[Encoded]) -> float:
    """The baseline of some mismatched sequences, which carry what the reference gives them."""
    moved = 0.0
    for sequence, logprobs in zip(sequences, learner.logprobs(sequences), strict=True):
        pairs = zip(trained(sequence), logprobs, strict=True)
        moved += sum(weight * logprob for (_, weight), logprob in pairs) - sequence.values[VALUE]
    return max(0.0, moved / max(len(sequences), 1))


@dataclass
class BaselineUpdates:
    """Planned updates, made when they begin. mismatched: as many sequences as `planned` has. name: of the total."""

    planned: PlannedUpdates
    mismatched: Sequence[Encoded]
    name: str

    @property
    def digest(self) -> str:
        """That of the plan."""
        return self.planned.digest

    @property
    def cutting(self) -> Cutting:
        """That of the plan; the trainer may set another one."""
        return self.planned.cutting

    @cutting.setter
    def cutting(self, chosen: Cutting) -> None:
        self.planned.cutting = chosen

    def __len__(self) -> int:
        """Updates of the whole training."""
        return len(self.planned)

    def make(self, number: int, learner: "Learner") -> UpdateBatch:
        """The update with its baseline among its totals and figures."""
        found = baseline(learner, [self.mismatched[i] for i in self.planned.plan.update(number)])
        made = self.planned[number]
        return replace(made, totals={**made.totals, self.name: found}, figures={self.name: found})


class BaselineEvaluation(Evaluation):
    """Rows kept aside; the baseline is measured when an evaluation begins."""

    def __init__(self, mismatched: Sequence[Encoded], name: str, *given: Any) -> None:
        super().__init__(*given)
        self.mismatched, self.name, self.found = mismatched, name, 0.0

    def begin(self, learner: "Learner") -> None:
        """Measure the baseline."""
        self.found = baseline(learner, self.mismatched)

    @property
    def totals(self) -> Mapping[str, float]:
        """The algorithm's totals over all sequences, and the baseline."""
        return {**super().totals, self.name: self.found}

    @property
    def figures(self) -> dict[str, Any]:
        """Rows and tokens evaluated, and the baseline."""
        return {f"eval_{self.name}": self.found, **super().figures}
