"""What the trainer asks of an algorithm, and what it gives: the only thing that the two know of each other.

An algorithm is one file in runner/algorithms: its hyperparameters as a component, and two functions. `measure` tells
what a sequence adds to the totals of its update; the loss of a micro-batch is that micro-batch's share of the loss of
the whole update, so it is divided by those totals and never by anything of the micro-batch. The shares of all
micro-batches on all devices then add up to the same loss and gradient, however the update was cut.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from runner.core.types import Encoded
from runner.data.collate import MicroBatch

if TYPE_CHECKING:
    import torch

    from runner.training._predictions import Predictions


class Algorithm(Protocol):
    """What is learned from the predictions of a model.

    whole_rows: whether all sequences of a row must share a micro-batch, as the two of a preference pair.
    """

    @property
    def whole_rows(self) -> bool: ...

    def measure(self, sequence: Encoded) -> Mapping[str, float]:
        """What the sequence adds to the totals of its update, by name; the same names for every sequence."""

    def loss(
        self, predictions: "Predictions", micro: MicroBatch, totals: Mapping[str, float]
    ) -> "tuple[torch.Tensor, Mapping[str, torch.Tensor]]":
        """The micro-batch's share of the update's loss, a scalar in float32, and of figures to log beside it.

        A filler's share must be 0 by its weights and yet depend on the model, so that devices stay in step.
        """


class Updates(Protocol):
    """What is trained on, update by update, for one device. digest: tells other data and other batches apart."""

    @property
    def digest(self) -> str: ...

    def __len__(self) -> int:
        """Updates of the whole training."""

    def __getitem__(self, number: int) -> Any:
        """The `UpdateBatch` of that update, from 0."""
