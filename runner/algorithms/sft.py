"""Supervised fine-tuning: the trained tokens become likelier, each by its weight."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from runner.core.schema import component
from runner.core.types import Encoded
from runner.data.collate import MicroBatch, trained

if TYPE_CHECKING:
    import torch

    from runner.training._predictions import Predictions


@component
class Sft:
    """Cross-entropy of the trained tokens, weighted, over the trained weight of the whole update."""

    whole_rows: ClassVar[bool] = False
    weighted_sum: ClassVar[bool] = True

    def measure(self, sequence: Encoded) -> Mapping[str, float]:
        """The trained weight of a sequence."""
        return {"weight": sum(weight for _, weight in trained(sequence))}

    def loss(
        self, predictions: "Predictions", micro: MicroBatch, totals: Mapping[str, float]
    ) -> "tuple[torch.Tensor, Mapping[str, torch.Tensor]]":
        """The share of the update's loss; an update that trains nothing has loss 0."""
        return -(predictions.logprobs * micro.weights).sum() / (totals["weight"] or 1.0), {}
