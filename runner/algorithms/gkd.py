"""Learning a teacher's probabilities of every token, on answers of the model's own or of the data: generalized
knowledge distillation (Agarwal et al. 2024, arXiv 2306.13649).

The divergence of a token is a Jensen-Shannon divergence generalized by beta: towards 0 that of the student from the
teacher (forward, covers all that the teacher may say), towards 1 that of the teacher from the student (reverse).

Of a teacher behind a server only its k likeliest words and the token itself are known, and how likely all others are
together. Both models then are compared over these words and one more for the rest. That is never more than the whole
divergence, grows with each word that is told and ends at it, since putting words together cannot raise a divergence
(the log sum inequality: Cover and Thomas 2006, theorem 2.7.1). For beta between 0 and 1 at most beta log(1/beta) of the
teacher's rest and (1 - beta) log(1/(1 - beta)) of the student's is lost, for beta 0 nothing where the teacher's rest is
nothing; both rests are told. At beta 1 nothing bounds it. To make probabilities up anew over the k words, the other way
that is in use, would give the student wrong numbers for these words too.
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

IDS, LOGPROBS = "teacher_ids", "teacher_logprobs"  # of each token: words, -1 for none, and what the teacher gives them
NOTHING = -1e4  # a log-probability whose probability is 0
ROUNDING = 1e-6  # a rest of told probabilities, each rounded, that is none
CHUNK = 256  # tokens whose probabilities over the vocabulary are held at once


@component
class Gkd:
    """teacher: a model, frozen, on the device; None: sequences carry what one told (see rollouts/teacher.py).

    beta: see above. temperature: of both models' logits.
    """

    teacher: Any = None
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
        if self.teacher is None:
            return self._from_told(predictions.logits, micro, max(totals["tokens"], 1.0))
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

    def _from_told(
        self, said: "torch.Tensor", micro: MicroBatch, tokens: float
    ) -> "tuple[torch.Tensor, Mapping[str, torch.Tensor]]":
        """The same of what a teacher told, and how likely either model finds the words that it did not tell."""
        import torch
        from torch.utils.checkpoint import checkpoint

        ids, told = micro.per_token[IDS], micro.per_token[LOGPROBS]
        chunks = zip(*(torch.split(part, CHUNK) for part in (said, ids, told)), strict=True)
        parts: list[Any] = [checkpoint(_over_told, *chunk, self.beta, use_reentrant=False) for chunk in chunks]
        empty = said.new_zeros(0, dtype=torch.float32)
        apart, ours, theirs = (torch.cat(part) for part in zip(*parts, strict=True)) if len(said) else [empty] * 3
        share = micro.weights / tokens
        figures = {"student_tail": (ours * share).sum(), "teacher_tail": (theirs * share).sum()}
        return (apart * share).sum(), figures


def _divergence(student: "torch.Tensor", teacher: "torch.Tensor", beta: float) -> "torch.Tensor":
    """Of each row of logits [N, vocabulary], float32 [N], in nats."""
    return _between(student.float().log_softmax(-1), teacher.float().log_softmax(-1), beta)


def _over_told(
    student: "torch.Tensor", ids: "torch.Tensor", told: "torch.Tensor", beta: float
) -> "tuple[torch.Tensor, torch.Tensor, torch.Tensor]":
    """Of each row of logits [N, vocabulary], over told words [N, m] and the rest; float32 [N], in nats.

    Args:
        ids: -1, or one that the student does not have, for none. told: the teacher's log-probabilities of them.

    Returns:
        The divergences, and the probability of the rest, the student's and the teacher's.
    """
    import torch

    ours = student.float().log_softmax(-1)
    known = (ids >= 0) & (ids < ours.shape[-1])
    words = torch.where(known, ours.gather(-1, torch.where(known, ids, 0)), NOTHING)
    spread = torch.where(known, ids, ours.shape[-1])  # what is no word goes to a place that is cut off
    others = torch.ones(ours.shape[0], ours.shape[1] + 1, dtype=torch.bool, device=ours.device)
    others = others.scatter(-1, spread, torch.zeros_like(known))[:, :-1]
    rest = torch.where(others, ours, NOTHING).logsumexp(-1, keepdim=True)
    theirs = torch.where(known, told.float(), NOTHING)
    left = 1.0 - theirs.double().exp().sum(-1, keepdim=True)
    left = torch.where(left > ROUNDING, left, 0.0)
    tail = torch.where(left > 0, left.clamp(min=ROUNDING).log(), NOTHING).float()
    apart = _between(torch.cat([words, rest], -1), torch.cat([theirs, tail], -1), beta)
    return apart, rest.detach().exp().squeeze(-1), left.float().squeeze(-1)


def _between(ours: "torch.Tensor", theirs: "torch.Tensor", beta: float) -> "torch.Tensor":
    """The divergence of log-probabilities [N, words]."""
    import math

    import torch

    if beta == 0:
        return _from(ours, theirs)
    if beta == 1:
        return _from(theirs, ours)
    mixed = torch.logaddexp(ours + math.log1p(-beta), theirs + math.log(beta))
    return beta * _from(mixed, theirs) + (1 - beta) * _from(mixed, ours)


def _from(guess: "torch.Tensor", truth: "torch.Tensor") -> "torch.Tensor":
    """The Kullback-Leibler divergence of a guess from the truth, both as log-probabilities."""
    return (truth.exp() * (truth - guess)).sum(-1)
