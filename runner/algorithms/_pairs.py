"""The two answers of each pair of a micro-batch, as the algorithms see them that learn from preferences."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from runner.core.types import Encoded
from runner.data.collate import MicroBatch, trained
from runner.data.judged import CHOSEN

if TYPE_CHECKING:
    from runner.training._predictions import Predictions

REFERENCE = "reference"  # the value of a sequence that is its log-probability under the reference


@dataclass(frozen=True)
class Pairs:
    """Float32 [pairs] each. chosen, rejected: weighted log-probabilities of the answers. chosen_size, rejected_size:
    their trained weights, that is, tokens. live: 1, or 0 of a filler.
    """

    chosen: torch.Tensor
    rejected: torch.Tensor
    chosen_size: torch.Tensor
    rejected_size: torch.Tensor
    live: float

    def per_token(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean log-probability of a token of the chosen and of the rejected answers."""
        return self.chosen / self.chosen_size.clamp(min=1.0), self.rejected / self.rejected_size.clamp(min=1.0)


def pairs(predictions: "Predictions", micro: MicroBatch) -> Pairs:
    """Pairs lie as (chosen, rejected, chosen, rejected, ...): rows are whole, their sequences in order."""
    said, size = of_sequences(predictions.logprobs * micro.weights, micro), of_sequences(micro.weights, micro)
    (chosen, rejected), (chosen_size, rejected_size) = (each.view(-1, 2).unbind(1) for each in (said, size))
    return Pairs(chosen, rejected, chosen_size, rejected_size, 0.0 if micro.filler else 1.0)


def measure(sequence: Encoded) -> dict[str, float]:
    """What a sequence adds to the totals: pairs, and the trained weight of chosen answers."""
    chosen = sequence.values[CHOSEN]
    return {"pairs": chosen, "chosen": chosen * sum(weight for _, weight in trained(sequence))}


def reference(micro: MicroBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """What the reference gives the chosen and the rejected answers, float32 [pairs] each."""
    chosen, rejected = micro.values[REFERENCE].view(-1, 2).unbind(1)
    return chosen, rejected


def of_sequences(values: torch.Tensor, micro: MicroBatch) -> torch.Tensor:
    """Sums over the trained tokens of each sequence. values: [N]; returns [sequences].

    By a mask, not by adding into places: that would add in another order each time on a GPU.
    """
    numbers = torch.arange(len(micro.sequences), device=values.device)
    return torch.where(micro.owners == numbers[:, None], values, 0.0).sum(1)


def figures(
    chosen: torch.Tensor, rejected: torch.Tensor, held: Pairs, totals: Mapping[str, float]
) -> dict[str, torch.Tensor]:
    """Shares of what is logged: means over the pairs of the update. chosen, rejected: rewards of the answers."""
    shares = {
        "accuracy": (chosen > rejected).float(),
        "margin": chosen - rejected,
        "rewards_chosen": chosen,
        "rewards_rejected": rejected,
        "logps_chosen": held.chosen,
        "logps_rejected": held.rejected,
    }
    return {name: share.detach().sum() * held.live / totals["pairs"] for name, share in shares.items()}
