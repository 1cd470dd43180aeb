"""Learning from the advantage of sampled answers over others to the same prompt: GRPO (Shao et al. 2024, arXiv
2402.03300) and what was made of it: Dr. GRPO (2503.20783), DAPO (2503.14476), GSPO's ratio of sequences (2507.18071).

A sequence is a prompt and an answer; its value `advantage` holds for all its trained tokens. Of a token may be known:
`old`, its log-probability when the answer was sampled (without it the ratio is 1 and only its gradient counts),
`reference`, that under the model which beta holds it to, and `correction`, a factor where the sampler was another;
where the answer is learned from only once the factor is made here, from `sampled`, what the sampler told.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from runner.algorithms._grpo_keys import GrpoKeys
from runner.core.schema import component
from runner.core.types import Encoded
from runner.data.collate import MicroBatch, trained

if TYPE_CHECKING:
    import torch

    from runner.training._predictions import Predictions

LEFT_OUT = "correction_left_out"  # the figure


@component
class Grpo(GrpoKeys):
    """See `GrpoKeys`. max_completion_length: tokens that an answer may have. temperature: at which they were sampled.

    correction: see rollouts/correction.py.
    """

    max_completion_length: int = 512
    temperature: float = 1.0
    correction: Literal["none", "token_truncate", "token_mask", "sequence_truncate", "sequence_mask"] = "none"
    whole_rows: ClassVar[bool] = False

    def measure(self, sequence: Encoded) -> Mapping[str, float]:
        """Answers and trained tokens, of which a masked answer has none; of both, those that have an advantage."""
        tokens = float(len(trained(sequence)))
        held = tokens if sequence.values.get("advantage") else 0.0
        return {"answers": 1.0, "tokens": tokens, "compared": float(held > 0), "compared_tokens": held}

    def loss(
        self, predictions: "Predictions", micro: MicroBatch, totals: Mapping[str, float]
    ) -> "tuple[torch.Tensor, Mapping[str, torch.Tensor]]":
        """The share of the update's loss; to be logged shares of clipped tokens, of what the correction leaves out (of
        all that has an advantage), and the divergence.
        """
        new = predictions.logprobs
        owned = _Owners(micro)
        advantage = micro.values["advantage"][micro.owners]
        log_ratio = new - micro.per_token.get("old", new.detach())
        if self.importance_sampling_level == "sequence":
            log_ratio = owned.mean(log_ratio)[micro.owners]
        ratio = log_ratio.exp()
        loss = -self._clipped(ratio, advantage)
        tokens = max(totals["tokens"], 1.0)
        figures: dict[str, torch.Tensor] = {}
        factor = micro.per_token.get("correction")
        if factor is None and "sampled" in micro.per_token:
            gaps = (new.detach() - micro.per_token["sampled"]).nan_to_num(0.0)
            factor = self._factors(gaps, owned, micro)
            figures["sampling_mismatch"] = (gaps.abs() * micro.weights).sum() / tokens
        if factor is not None:
            loss = loss * factor
            figures |= self._left_out(factor, owned, micro, totals)
        high = self.epsilon if self.epsilon_high is None else self.epsilon_high
        low = ((ratio < 1 - self.epsilon) & (advantage < 0)) * micro.weights
        above = ((ratio > 1 + high) & (advantage > 0)) * micro.weights
        figures |= {"clip_low": low.sum() / tokens, "clip_high": above.sum() / tokens}
        if self.beta:
            gap = micro.per_token["reference"] - new
            kl = gap.exp() - gap - 1
            kl = kl * ratio if self.use_bias_correction_kl else kl
            loss = loss + self.beta * kl
            figures["kl"] = (kl.detach() * micro.weights).sum() / tokens
        return (loss * micro.weights * self._share(owned, micro, totals)).sum(), figures

    def _clipped(self, ratio: "torch.Tensor", advantage: "torch.Tensor") -> "torch.Tensor":
        import torch

        high = self.epsilon if self.epsilon_high is None else self.epsilon_high
        bound = ratio.clamp(1 - self.epsilon, 1 + high)
        free = ratio if self.delta is None else ratio.clamp(max=self.delta)
        return torch.minimum(free * advantage, bound * advantage)

    def _factors(self, gaps: "torch.Tensor", owned: "_Owners", micro: MicroBatch) -> "torch.Tensor":
        """As rollouts/correction.py makes them."""
        if self.correction.startswith("sequence"):
            gaps = (owned.mean(gaps) * owned.lengths)[micro.owners]
        ratio, low, high = gaps.clamp(-80.0, 80.0).exp(), self.correction_min, self.correction_max
        if self.correction.endswith("mask"):
            kept = ratio >= (0.0 if low is None else low)
            return ratio * (kept if high is None else kept & (ratio <= high))
        return ratio if low is None and high is None else ratio.clamp(low, high)

    def _left_out(
        self, factor: "torch.Tensor", owned: "_Owners", micro: MicroBatch, totals: Mapping[str, float]
    ) -> "dict[str, torch.Tensor]":
        """The share of answers, or tokens, that have an advantage and are masked by the correction all the same."""
        if not self.correction.endswith("mask"):
            return {}
        gone = (factor == 0) * (micro.values["advantage"][micro.owners] != 0) * micro.weights
        if self.correction.startswith("sequence"):
            return {LEFT_OUT: owned.mean(gone).sum() / max(totals["compared"], 1.0)}
        return {LEFT_OUT: gone.sum() / max(totals["compared_tokens"], 1.0)}

    def _share(self, owned: "_Owners", micro: MicroBatch, totals: Mapping[str, float]) -> Any:
        """What a token counts in the mean."""
        if self.loss_type == "grpo":
            return 1.0 / (owned.lengths[micro.owners] * max(totals["answers"], 1.0))
        if self.loss_type == "dr_grpo":
            return 1.0 / (max(totals["answers"], 1.0) * self.max_completion_length)
        return 1.0 / max(totals["tokens"], 1.0)


class _Owners:
    """Sums over the trained tokens of each sequence of a micro-batch; every sequence is whole in it."""

    def __init__(self, micro: MicroBatch) -> None:
        import torch

        self.owners, self.count = micro.owners, len(micro.sequences)
        self.lengths = torch.bincount(micro.owners, minlength=self.count).clamp(min=1).float()

    def mean(self, values: "torch.Tensor") -> "torch.Tensor":
        """The mean over each sequence's tokens, float32 [sequences]."""
        return values.new_zeros(self.count).index_add(0, self.owners, values) / self.lengths
