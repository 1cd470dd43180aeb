"""Proximal policy optimization (Schulman et al. 2017, arXiv 1707.06347) of a language model with a head that foretells
what an answer will be worth, on the same body.

Of a token are known `old`, its log-probability when it was sampled, `gain`, its advantage, `value`, what was foretold
at its place, and `return`, what should have been.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge, Gt

from runner.core.schema import component
from runner.core.types import Encoded
from runner.data.collate import MicroBatch, trained

if TYPE_CHECKING:
    import torch

    from runner.training._predictions import Predictions


@component
class Ppo:
    """critic: tells the values of the places that were predicted last. cliprange: of the ratio; cliprange_value: how
    far a value may move from what was foretold. vf_coef: weight of the error of values. Names as in TRL's PPOConfig.
    """

    critic: Any
    cliprange: Annotated[float, Gt(0)] = 0.2
    cliprange_value: Annotated[float, Gt(0)] = 0.2
    vf_coef: Annotated[float, Ge(0)] = 0.1
    temperature: float = 1.0
    whole_rows: ClassVar[bool] = False

    def measure(self, sequence: Encoded) -> Mapping[str, float]:
        """Trained tokens."""
        return {"tokens": float(len(trained(sequence)))}

    def loss(
        self, predictions: "Predictions", micro: MicroBatch, totals: Mapping[str, float]
    ) -> "tuple[torch.Tensor, Mapping[str, torch.Tensor]]":
        """The share of the update's loss: clipped gains, and the error of values, each a mean over tokens."""
        import torch

        known, share = micro.per_token, micro.weights / max(totals["tokens"], 1.0)
        ratio = (predictions.logprobs - known["old"]).exp()
        bound = ratio.clamp(1 - self.cliprange, 1 + self.cliprange)
        policy = -torch.minimum(ratio * known["gain"], bound * known["gain"])
        values = self.critic.last.float()
        near = known["value"] + (values - known["value"]).clamp(-self.cliprange_value, self.cliprange_value)
        errors = torch.maximum((values - known["return"]) ** 2, (near - known["return"]) ** 2)
        figures = {
            "policy_loss": (policy.detach() * share).sum(),
            "value_loss": (0.5 * errors.detach() * share).sum(),
            "clipped": ((ratio < 1 - self.cliprange) | (ratio > 1 + self.cliprange)).float().mul(share).sum(),
        }
        return ((policy + self.vf_coef * 0.5 * errors) * share).sum(), figures
