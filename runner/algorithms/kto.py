"""KTO: answers that people found good become likelier and others less likely, each measured against a reference.

Ethayarajh et al. 2024 (arXiv 2402.01306). Keys and defaults are those of TRL's `KTOConfig`; the loss of an update is
the mean over its answers. The baseline (how far the model has moved on answers to other questions) is that of the whole
update, computed before its gradient, so that it does not depend on how the update is cut.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge, Gt

from runner.core.schema import component
from runner.core.types import Encoded
from runner.data.collate import MicroBatch
from runner.data.judged import DESIRABLE

if TYPE_CHECKING:
    import torch

    from runner.training._predictions import Predictions

KL = "kl"  # the total that is the baseline


@component
class Kto:
    """beta: how far the model may move from the reference. loss_type: kto, or apo_zero_unpaired without a baseline.

    desirable_weight, undesirable_weight: of answers whose label is true or false, to even out their numbers.
    """

    beta: Annotated[float, Gt(0)] = 0.1
    loss_type: Literal["kto", "apo_zero_unpaired"] = "kto"
    desirable_weight: Annotated[float, Ge(0)] = 1.0
    undesirable_weight: Annotated[float, Ge(0)] = 1.0
    whole_rows: ClassVar[bool] = False

    def measure(self, sequence: Encoded) -> Mapping[str, float]:
        """Answers of each kind."""
        good = sequence.values[DESIRABLE]
        return {"answers": 1.0, "desirable": good, "undesirable": 1.0 - good}

    def loss(
        self, predictions: "Predictions", micro: MicroBatch, totals: Mapping[str, float]
    ) -> "tuple[torch.Tensor, Mapping[str, torch.Tensor]]":
        """The share of the update's loss; rewards are beta times the gains over the reference."""
        import torch

        from runner.algorithms import _pairs

        live, good = 0.0 if micro.filler else 1.0, micro.values[DESIRABLE]
        said = _pairs.of_sequences(predictions.logprobs * micro.weights, micro)
        gain = said - micro.values[_pairs.REFERENCE]
        baseline = totals[KL] if self.loss_type == "kto" else 0.0
        # both loss types are 1 - sigmoid of how far an answer is on its side of the baseline
        side = 2.0 * good - 1.0
        lost = 1.0 - torch.sigmoid(self.beta * side * (gain - baseline))
        weights = self.desirable_weight * good + self.undesirable_weight * (1.0 - good)
        reward = (self.beta * gain).detach() * live
        chosen = (reward * good).sum() / (totals["desirable"] or 1.0)
        rejected = (reward * (1.0 - good)).sum() / (totals["undesirable"] or 1.0)
        right = (side * (gain.detach() - baseline) > 0).float() * live
        return (weights * lost).sum() * live / totals["answers"], {
            "accuracy": right.sum() / totals["answers"],
            "margin": chosen - rejected,
            "rewards_chosen": chosen,
            "rewards_rejected": rejected,
        }
