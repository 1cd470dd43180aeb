"""ORPO: the chosen answer is learned as in fine-tuning, and its odds rise over those of the rejected one.

Hong et al. 2024 (arXiv 2403.07691), without any reference. beta is the paper's lambda, as in TRL's `ORPOConfig`. The
cross-entropy is that of the answer; TRL's counts the question too.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge

from runner.core.schema import component
from runner.core.types import Encoded
from runner.data.collate import MicroBatch

if TYPE_CHECKING:
    import torch

    from runner.training._predictions import Predictions


@component
class Orpo:
    """beta: how much the odds ratio counts beside the cross-entropy of the chosen answers."""

    beta: Annotated[float, Ge(0)] = 0.1
    whole_rows: ClassVar[bool] = True

    def measure(self, sequence: Encoded) -> Mapping[str, float]:
        """Pairs, and the trained weight of chosen answers."""
        from runner.algorithms import _pairs

        return _pairs.measure(sequence)

    def loss(
        self, predictions: "Predictions", micro: MicroBatch, totals: Mapping[str, float]
    ) -> "tuple[torch.Tensor, Mapping[str, torch.Tensor]]":
        """The share of the update's loss; rewards are beta times the mean log-probability of a token."""
        from torch.nn.functional import logsigmoid

        from runner.algorithms import _pairs

        held = _pairs.pairs(predictions, micro)
        chosen, rejected = held.per_token()
        ahead = (chosen - _log_rest(chosen)) - (rejected - _log_rest(rejected))
        copied = -held.chosen.sum() / (totals["chosen"] or 1.0)
        share = copied - self.beta * logsigmoid(ahead).sum() * held.live / totals["pairs"]
        return share, {
            **_pairs.figures(self.beta * chosen, self.beta * rejected, held, totals),
            "log_odds": (ahead.detach().sum() * held.live) / totals["pairs"],
        }


def _log_rest(logprob: "torch.Tensor") -> "torch.Tensor":
    """log(1 - p) of a log-probability below 0, without losing digits where p is near 0 or 1."""
    import torch

    below = logprob.clamp(max=-1e-6)
    return torch.where(below < -0.693147, torch.log1p(-below.exp()), torch.log(-torch.expm1(below)))
