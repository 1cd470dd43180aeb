"""SimPO: a model learns from pairs of answers that the chosen one is likelier by a margin; no reference is needed."""

from typing import TYPE_CHECKING

from runner.algorithms.simpo import Simpo as Loss
from runner.core.schema import component
from runner.stages._preference import Preference, own_keys

if TYPE_CHECKING:
    from runner.training.algorithm import Algorithm


@component
class Simpo(Preference, Loss):
    """Learning from pairs of answers without a reference. Keys are named as in TRL's CPOConfig."""

    def algorithm(self) -> "Algorithm":
        """SimPO with this stage's keys."""
        return own_keys(Loss, self)
