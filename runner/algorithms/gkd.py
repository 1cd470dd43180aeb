"""Learning a teacher's probabilities of every token, on answers of the model's own or of the data: generalized
knowledge distillation (Agarwal et al. 2024, arXiv 2306.13649).

The divergence of a token is a Jensen-Shannon divergence generalized by beta: towards 0 that of the student from the
teacher (forward, covers all that the teacher may say), towards 1 that of the teacher from the student (reverse).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Gt, Interval

from runner.core.schema import component
from runner.core.types import Encoded
from runner.data.collate import MicroBatch, trained

if TYPE_CHECKING:
    import torch

    from runner.training._predictions import Predictions

CHUNK = 256  # tokens whose probabilities over the vocabulary are held at once


@component
class Gkd:
    """teacher: a model, frozen, on the device. beta: see above. temperature: of both models' logits."""

    teacher: Any
    beta: Annotated[float, Interval(ge=0.0, le=1.0)] = 0.5
    temperature: Annotated[float, Gt(0)] = 1.0
    whole_rows: ClassVar[bool] = False
    needs_logits: ClassVar[bool] = True

    def measure(self, sequence: Encoded) -> Mapping[str, float]:
        """Trained tokens."""
        return {"tokens": float(len(trained(sequence)))}

    def loss(
        self, predictions: "Predictions", micro: MicroBatch, totals: Mapping[str, float]
    ) -> "tuple[torch.Tensor, Mapping[str, torch.Tensor]]":
        """The share of the update's mean divergence a token."""
        import torch
        from torch.utils.checkpoint import checkpoint

        from runner.training._predictions import head_of, predict

        with torch.no_grad():
            told = predict(self.teacher, head_of(self.teacher), micro, self.temperature).logits
        said = predictions.logits
        width = min(said.shape[-1], told.shape[-1])  # the same words; one may hold more empty places behind them
        parts: list[Any] = [
            checkpoint(_divergence, ours[:, :width], theirs[:, :width], self.beta, use_reentrant=False)
            for ours, theirs in zip(torch.split(said, CHUNK), torch.split(told, CHUNK), strict=True)
        ]
        apart = torch.cat(parts) if parts else said.new_zeros(0)
        return (apart * micro.weights).sum() / max(totals["tokens"], 1.0), {}


def _divergence(student: "torch.Tensor", teacher: "torch.Tensor", beta: float) -> "torch.Tensor":
    """Of each row of logits [N, vocabulary], float32 [N], in nats."""
    import math

    import torch

    ours, theirs = student.float().log_softmax(-1), teacher.float().log_softmax(-1)
    if beta == 0:
        return _from(ours, theirs)
    if beta == 1:
        return _from(theirs, ours)
    mixed = torch.logaddexp(ours + math.log1p(-beta), theirs + math.log(beta))
    return beta * _from(mixed, theirs) + (1 - beta) * _from(mixed, ours)


def _from(guess: "torch.Tensor", truth: "torch.Tensor") -> "torch.Tensor":
    """The Kullback-Leibler divergence of a guess from the truth, both as log-probabilities."""
    return (truth.exp() * (truth - guess)).sum(-1)
