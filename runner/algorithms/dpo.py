"""Direct preference optimization: the chosen answer of a pair gains on the rejected one, measured against a reference.

Rafailov et al. 2023 (arXiv 2305.18290) and losses of the same form. Keys and defaults are those of TRL's `DPOConfig`;
the loss of an update is the mean over its pairs, `sft` the mean over the tokens of its chosen answers.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Gt, Interval, MinLen

from runner.core.schema import component
from runner.core.types import Encoded
from runner.data.collate import MicroBatch

if TYPE_CHECKING:
    import torch

    from runner.training._predictions import Predictions

Loss = Literal[
    "sigmoid", "hinge", "ipo", "robust", "sigmoid_norm", "exo_pair", "nca_pair", "bco_pair", "sppo_hard", "apo_zero",
    "apo_down", "sft",
]  # fmt: skip


@component
class Dpo:
    """beta: how far the model may move from the reference. loss_type, loss_weights: one loss or several, weighted.

    `sft` among them adds the cross-entropy of the chosen answers. label_smoothing: the share of wrong preferences, for
    robust and exo_pair. reference: the weights before the first update, or none (free).
    """

    beta: Annotated[float, Gt(0)] = 0.1
    loss_type: Loss | Annotated[list[Loss], MinLen(1)] = "sigmoid"
    loss_weights: list[float] | None = None
    label_smoothing: Annotated[float, Interval(ge=0.0, lt=0.5)] = 0.0
    reference: Literal["precomputed", "free"] = "precomputed"
    whole_rows: ClassVar[bool] = True

    @property
    def losses(self) -> list[Loss]:
        """The losses that are added up."""
        return self.loss_type if isinstance(self.loss_type, list) else [self.loss_type]

    def measure(self, sequence: Encoded) -> Mapping[str, float]:
        """Pairs, and the trained weight of chosen answers."""
        from runner.algorithms import _pairs

        return _pairs.measure(sequence)

    def loss(
        self, predictions: "Predictions", micro: MicroBatch, totals: Mapping[str, float]
    ) -> "tuple[torch.Tensor, Mapping[str, torch.Tensor]]":
        """The share of the update's loss; rewards are beta times the gains over the reference."""
        from runner.algorithms import _pairs
        from runner.algorithms._dpo_losses import LOSSES, Ratios

        held = _pairs.pairs(predictions, micro)
        chosen, rejected = held.chosen, held.rejected
        if self.reference != "free":
            before = _pairs.reference(micro)
            chosen, rejected = chosen - before[0], rejected - before[1]
        given = Ratios(chosen, rejected, held.chosen_size, held.rejected_size, self.beta, self.label_smoothing)
        share = held.chosen.new_zeros(())
        for name, weight in zip(self.losses, self.loss_weights or [1.0] * len(self.losses), strict=True):
            if name == "sft":
                share = share - weight * held.chosen.sum() / (totals["chosen"] or 1.0)
            else:
                share = share + weight * LOSSES[name](given).sum() * held.live / totals["pairs"]
        return share, _pairs.figures(self.beta * chosen, self.beta * rejected, held, totals)
