"""REINFORCE with the other answers to a prompt as its baseline, an answer taken as one action: RLOO (Ahmadian et al.
2024, arXiv 2402.14740). The divergence from the reference is part of the reward, so it is in the advantage already.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Gt

from runner.core.schema import component
from runner.core.types import Encoded
from runner.data.collate import MicroBatch, trained

if TYPE_CHECKING:
    import torch

    from runner.training._predictions import Predictions


@component
class Rloo:
    """epsilon, epsilon_high: the ratio of an answer's new to its old probability counts from 1 - epsilon to
    1 + epsilon_high. temperature: at which answers were sampled. A sequence's values are those of algorithms/grpo.py.
    """

    epsilon: Annotated[float, Gt(0)] = 0.2
    epsilon_high: Annotated[float, Gt(0)] | None = None
    temperature: float = 1.0
    whole_rows: ClassVar[bool] = False

    def measure(self, sequence: Encoded) -> Mapping[str, float]:
        """Answers and trained tokens."""
        return {"answers": 1.0, "tokens": float(len(trained(sequence)))}

    def loss(
        self, predictions: "Predictions", micro: MicroBatch, totals: Mapping[str, float]
    ) -> "tuple[torch.Tensor, Mapping[str, torch.Tensor]]":
        """The share of the update's mean over answers, and the shares of clipped answers."""
        import torch

        new, none = predictions.logprobs, predictions.logprobs.new_zeros(len(micro.sequences))
        gaps = new - micro.per_token.get("old", new.detach())
        ratio = none.index_add(0, micro.owners, gaps).exp()
        counts = (none.index_add(0, micro.owners, micro.weights) > 0).float()  # 0 in a filler
        advantage = micro.values["advantage"]
        high = self.epsilon if self.epsilon_high is None else self.epsilon_high
        bound = ratio.clamp(1 - self.epsilon, 1 + high)
        loss = -torch.minimum(ratio * advantage, bound * advantage)
        answers = max(totals["answers"], 1.0)
        low = ((ratio < 1 - self.epsilon) & (advantage < 0)) * counts
        above = ((ratio > 1 + high) & (advantage > 0)) * counts
        figures = {"clip_low": low.sum() / answers, "clip_high": above.sum() / answers}
        return (loss * counts).sum() / answers, figures
