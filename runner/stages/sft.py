"""Supervised fine-tuning: a model learns the answers of a mix of conversations."""

from typing import TYPE_CHECKING

from runner.core.schema import component
from runner.stages._training import Training

if TYPE_CHECKING:
    from runner.training.algorithm import Algorithm


@component
class Sft(Training):
    """Fine-tuning on the answers of conversations. `batch` says what makes an update, over all devices."""

    def algorithm(self) -> "Algorithm":
        """Cross-entropy."""
        from runner.algorithms.sft import Sft as Loss

        return Loss()
