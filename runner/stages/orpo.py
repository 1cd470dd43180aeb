"""ORPO: a model learns the chosen answers of pairs and to prefer them, in one training without a reference."""

from typing import TYPE_CHECKING

from runner.algorithms.orpo import Orpo as Loss
from runner.core.schema import component
from runner.stages._preference import Preference, own_keys

if TYPE_CHECKING:
    from runner.training.algorithm import Algorithm


@component
class Orpo(Preference, Loss):
    """Fine-tuning and preference in one, from pairs of answers. beta as in TRL's ORPOConfig."""

    def algorithm(self) -> "Algorithm":
        """ORPO with this stage's keys."""
        return own_keys(Loss, self)
