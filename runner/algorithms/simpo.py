"""SimPO: the chosen answer becomes likelier per token than the rejected one by a margin, without any reference.

Meng et al. 2024 (arXiv 2405.14734). Keys are named as in TRL's `CPOConfig`; beta, simpo_gamma and cpo_alpha have the
values of the paper (TRL's, 0.1, 0.5 and 1.0, are those of CPO with a SimPO term).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge, Gt, Interval

from runner.core.schema import component
from runner.core.types import Encoded
from runner.data.collate import MicroBatch

if TYPE_CHECKING:
    import torch

    from runner.training._predictions import Predictions


@component
class Simpo:
    """beta: scale of the rewards. simpo_gamma: the margin that is wanted between them. label_smoothing: the share of
    wrong preferences. cpo_alpha: how much the cross-entropy of the chosen answers counts.
    """

    beta: Annotated[float, Gt(0)] = 2.0
    simpo_gamma: Annotated[float, Ge(0)] = 1.0
    label_smoothing: Annotated[float, Interval(ge=0.0, lt=0.5)] = 0.0
    cpo_alpha: Annotated[float, Ge(0)] = 0.0
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
        chosen, rejected = (self.beta * each for each in held.per_token())
        ahead = chosen - rejected - self.simpo_gamma
        lost = -logsigmoid(ahead) * (1 - self.label_smoothing) - logsigmoid(-ahead) * self.label_smoothing
        copied = -held.chosen.sum() / (totals["chosen"] or 1.0)
        share = lost.sum() * held.live / totals["pairs"] + self.cpo_alpha * copied
        return share, _pairs.figures(chosen, rejected, held, totals)
