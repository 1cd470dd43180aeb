"""Reward model: the number that a model gives the chosen answer rises above that of the rejected one.

Bradley and Terry 1952, as used by Ouyang et al. 2022 (arXiv 2203.02155). Keys are those of TRL's `RewardConfig`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge

from runner.core.schema import component
from runner.core.types import Encoded
from runner.data.collate import MicroBatch
from runner.data.judged import CHOSEN

if TYPE_CHECKING:
    import torch

    from runner.training._predictions import Predictions


@component
class RewardModel:
    """center_rewards_coefficient: how much rewards of a pair whose sum is not 0 count against it, squared."""

    center_rewards_coefficient: Annotated[float, Ge(0)] | None = None
    whole_rows: ClassVar[bool] = True
    needs_logits: ClassVar[bool] = True

    def measure(self, sequence: Encoded) -> Mapping[str, float]:
        """Pairs."""
        return {"pairs": sequence.values[CHOSEN]}

    def loss(
        self, predictions: "Predictions", micro: MicroBatch, totals: Mapping[str, float]
    ) -> "tuple[torch.Tensor, Mapping[str, torch.Tensor]]":
        """The share of the update's loss, of one number a sequence."""
        from torch.nn.functional import logsigmoid

        live = 0.0 if micro.filler else 1.0
        chosen, rejected = predictions.logits.float().view(-1, 2).unbind(1)
        lost = -logsigmoid(chosen - rejected)
        if self.center_rewards_coefficient:
            lost = lost + self.center_rewards_coefficient * (chosen + rejected) ** 2
        shares = {
            "accuracy": (chosen > rejected).float(),
            "margin": chosen - rejected,
            "rewards_chosen": chosen,
            "rewards_rejected": rejected,
        }
        figures = {name: share.detach().sum() * live / totals["pairs"] for name, share in shares.items()}
        return lost.sum() * live / totals["pairs"], figures
