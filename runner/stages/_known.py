"""The sequences of a training and all that its algorithm asks to know of them, as the trainer wants them."""

from collections.abc import Callable
from dataclasses import dataclass

from runner.data.prepare import Encodings
from runner.data.updates import UpdatePlan
from runner.training.algorithm import Algorithm, Learner, LiveUpdates, Updates
from runner.training.evaluation import Evaluation
from runner.training.planned import Cutting, PlannedUpdates


@dataclass(frozen=True)
class Known:
    """train: to learn from, by the plan. kept: to evaluate with. before: see `Work`."""

    plan: UpdatePlan
    train: Encodings
    kept: Encodings
    before: Callable[[Learner, int], None] | None = None

    def updates(self, algorithm: Algorithm, cutting: Cutting) -> Updates | LiveUpdates:
        """For one device."""
        return PlannedUpdates(self.train.sequences, self.plan, algorithm, cutting)

    def evaluation(self, algorithm: Algorithm, cutting: Cutting) -> Evaluation:
        """For one device."""
        return Evaluation(self.kept.sequences, self.kept.rows, algorithm, cutting)
