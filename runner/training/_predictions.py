"""What a model predicts at the trained places of a micro-batch, and nowhere else.

The head of a language model is wide: logits of every place would cost more memory and time than the rest of a small
model. A hook in front of the head lets only the trained places through; the model's own forward, and whatever wraps it
(DDP, FSDP, adapters), stays in charge, and so does what it does to logits afterwards. On a GPU even those logits are
never held at once where Liger's fused kernel may stand in for the head (`fused_head.py`).
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch.nn import functional

from runner.core.errors import ModelError
from runner.data.collate import MicroBatch
from runner.training.fused_head import fused

FAR = 1000.0  # where any cap, scale or shift of a logit shows


@dataclass(frozen=True)
class Predictions:
    """targets: int64 [N], the tokens at the N trained places. out: their logits [N, vocabulary] as the model gives
    them, or where the head was fused with the loss their log-probabilities, float32 [N]. temperature: what logits are
    still to be divided by; log-probabilities were."""

    out: torch.Tensor
    targets: torch.Tensor
    temperature: float = 1.0

    @property
    def logits(self) -> torch.Tensor:
        """[N, vocabulary], for algorithms that say `needs_logits`."""
        assert self.out.dim() == 2, "the algorithm must say needs_logits"
        return self.out if self.temperature == 1.0 else self.out / self.temperature

    @cached_property
    def logprobs(self) -> torch.Tensor:
        """The log-probability of each trained token, float32 [N]."""
        if self.out.dim() == 1:
            return self.out
        logits = self.out.float()
        logits = logits if self.temperature == 1.0 else logits / self.temperature
        return -functional.cross_entropy(logits, self.targets, reduction="none")


def predict(
    model: Any, head: torch.nn.Module, micro: MicroBatch, temperature: float = 1.0, fuse: bool = False,
    weighted: bool = False,
) -> Predictions:  # fmt: skip
    """Run the model on a micro-batch.

    Args:
        model: as wrapped for training. head: its output layer. micro: on the model's device. temperature: logits are
            divided by it, once the model has done with them what it does (a bias, a cap), as they were where answers
            were sampled. fuse: whether the head may be fused with the loss. weighted: whether that will be a multiple
            of the log-probabilities times the micro-batch's weights, summed up.
    """
    weights = micro.weights if weighted else None
    stands_in = fused(head, micro.targets, temperature, weights=weights) if fuse else contextlib.nullcontext()
    with _trained_places(head, micro), stands_in:
        out = model(**micro.inputs, use_cache=False).logits
    return Predictions(out, micro.targets, temperature)


def logprobs(
    model: Any, head: torch.nn.Module, micro: MicroBatch, temperature: float = 1.0, fuse: bool = False
) -> torch.Tensor:
    """The log-probability of each trained token, float32 [N], without a gradient. Logits are never held of all places
    at once, but where the model does something to what its head gives, as a cap, which takes a second pass.

    Args:
        As of `predict`. fuse: whether Liger's kernel may stand in for the head.
    """
    with torch.no_grad():
        with _trained_places(head, micro), fused(head, micro.targets, temperature, fuse, less=FAR) as told:
            out = model(**micro.inputs, use_cache=False).logits
        if torch.equal(out.float().nan_to_num(), (told[0] - FAR).nan_to_num()):
            return told[0]
        return predict(model, head, micro, temperature).logprobs


@contextlib.contextmanager
def _trained_places(head: torch.nn.Module, micro: MicroBatch) -> Iterator[None]:
    """Lets nothing else through to the head."""

    def chosen(_: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        hidden = given[0]
        return (hidden.reshape(-1, hidden.shape[-1]).index_select(0, micro.places), *given[1:])

    hook = head.register_forward_pre_hook(chosen)
    try:
        yield
    finally:
        hook.remove()


def head_of(model: Any) -> torch.nn.Module:
    """The output layer of a language model, through an adapter's wrapper."""
    head: torch.nn.Module | None = model.get_output_embeddings()
    if head is None:
        raise ModelError(
            f"model.id: {type(model).__name__} has no output layer over a vocabulary. Take a language model."
        )
    return head
