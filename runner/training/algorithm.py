"""What the trainer asks of an algorithm, and what it gives: the only thing that the two know of each other.

An algorithm is one file in runner/algorithms: its hyperparameters as a component, and two functions. `measure` tells
what a sequence adds to the totals of its update; the loss of a micro-batch is that micro-batch's share of the loss of
the whole update, so it is divided by those totals and never by anything of the micro-batch. The shares of all
micro-batches on all devices then add up to the same loss and gradient, however the update was cut.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from runner.core.types import Encoded
from runner.data.collate import MicroBatch

if TYPE_CHECKING:
    import torch

    from runner.training._predictions import Predictions
    from runner.training.planned import Cutting


class Algorithm(Protocol):
    """What is learned from the predictions of a model.

    whole_rows: whether all sequences of a row must share a micro-batch, as the two of a preference pair. One that
    learns from sampled answers may have a `temperature` too: logits are divided by it; one that looks at whole logits
    says `needs_logits`; one whose loss is a multiple of the log-probabilities times the micro-batch's weights, summed
    up, says `weighted_sum`, and the gradient is made together with them.
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
    """What is trained on, update by update, for one device. digest: tells other data and other batches apart.

    cutting: how its sequences are cut.
    """

    cutting: "Cutting"

    @property
    def digest(self) -> str: ...

    def __len__(self) -> int:
        """Updates of the whole training."""

    def __getitem__(self, number: int) -> Any:
        """The `UpdateBatch` of that update, from 0."""


@runtime_checkable
class LiveUpdates(Protocol):
    """What is trained on where it depends on the weights of the moment, as answers that the model itself samples: an
    update is made when it begins, by the trainer's process, and never ahead. cutting: how its sequences are cut.
    """

    cutting: "Cutting"

    @property
    def digest(self) -> str: ...

    def __len__(self) -> int:
        """Updates of the whole training."""

    def make(self, number: int, learner: "Learner") -> Any:
        """The `UpdateBatch` of that update, from 0. The same on all devices but for the micro-batches."""


class Learner(Protocol):
    """The model as it stands between two updates, for those who make the next one.

    model: as it is wrapped for training; own: without the wrapper.
    """

    @property
    def model(self) -> Any: ...

    @property
    def own(self) -> Any: ...

    @property
    def trainer(self) -> Any:
        """The running Trainer, its accelerator and its optimizer."""

    def logprobs(self, sequences: Sequence[Encoded], reference: Any = None, values: Any = None) -> list[list[float]]:
        """The log-probability of every trained token of each sequence, in evaluation mode, shared by all devices.

        Args:
            reference: another model to ask, or "base": this one without its adapter. values: a critic, whose word is
                taken instead.
        """

    @property
    def figures(self) -> Mapping[str, float]:
        """Those of the update before this moment."""

    def stop_if_asked(self) -> None:
        """Leave an update that is being made when the user asked to stop; it will be made anew."""
