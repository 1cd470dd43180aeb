"""The sequences of a training and all that its algorithm asks to know of them, as the trainer wants them."""

from collections.abc import Callable
from dataclasses import dataclass, field

from runner.data.prepare import Encodings
from runner.data.updates import UpdatePlan
from runner.training.algorithm import Algorithm, Learner, LiveUpdates, Updates
from runner.training.baseline import BaselineEvaluation, BaselineUpdates
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


@dataclass(frozen=True)
class KnownWithBaseline(Known):
    """What KTO asks to know besides: questions with answers to others. name: of the total that is the baseline."""

    train_others: Encodings = field(default_factory=Encodings)
    kept_others: Encodings = field(default_factory=Encodings)
    name: str = ""

    def updates(self, algorithm: Algorithm, cutting: Cutting) -> Updates | LiveUpdates:
        """For one device."""
        planned = PlannedUpdates(self.train.sequences, self.plan, algorithm, cutting)
        return BaselineUpdates(planned, self.train_others.sequences, self.name)

    def evaluation(self, algorithm: Algorithm, cutting: Cutting) -> Evaluation:
        """For one device."""
        given = (self.kept.sequences, self.kept.rows, algorithm, cutting)
        return BaselineEvaluation(self.kept_others.sequences, self.name, *given)


def asked(plan: UpdatePlan) -> set[int]:
    """The sequences that a training will see."""
    return {number for update in range(plan.total) for number in plan.update(update)}
