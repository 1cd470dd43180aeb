"""Log-probabilities without the logits: Liger's fused linear cross-entropy in the place of a model's output layer, or,
for passes without a gradient, that layer itself on a few places at a time.

Logits of 8,000 places and 150,000 tokens take 2.4 GB in bfloat16 and several times that with their gradient; the kernel
makes them piece by piece, forward and again backward, and weights of any kind may be put on the result; where those
are known before, or the head does not learn, once is enough. It stands in only where it gives what the model itself
gives: a plain linear head whose output no later step caps or scales, which is tried on the model and not guessed from
its name.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from runner.models.fused_kernel import CHUNK, installed

if TYPE_CHECKING:
    import torch


PIECE = 512  # places whose logits are held at once without the kernel


@contextlib.contextmanager
def fused(
    head: "torch.nn.Module", targets: "torch.Tensor", temperature: float, kernel: bool = True, less: float = 0.0,
    weights: "torch.Tensor | None" = None,
) -> "Iterator[list[torch.Tensor]]":  # fmt: skip
    """While it lasts, the head gives the log-probabilities of the targets, float32 [N], and they are listed.

    Args:
        head: a linear layer that is given [N, hidden]; any other output layer without the kernel. targets: int64 [N].
        temperature: logits are divided by it. kernel: else it gives logits piece by piece, which saves memory only
            where there is no gradient. less: is taken off what the head gives, not off what is listed: far from 0 it
            shows whether the model does anything more to it. weights: float32 [N], where the loss will be a multiple
            of the log-probabilities times them, summed up.
    """
    own, given = head.forward, head.__dict__.get("forward")  # of whoever stands in for it already
    told: list[torch.Tensor] = []

    def forward(hidden: "torch.Tensor") -> "torch.Tensor":
        if kernel:
            told.append(_logprobs(hidden, head, targets, temperature, weights))
        else:
            told.append(_pieces(hidden, own, targets, temperature))
        return told[-1] - less if less else told[-1]

    head.__dict__["forward"] = forward
    try:
        yield told
    finally:
        head.__dict__.pop("forward")
        head.__dict__.update({} if given is None else {"forward": given})


def _pieces(
    hidden: "torch.Tensor", head: "Callable[[torch.Tensor], torch.Tensor]", targets: "torch.Tensor", temperature: float
) -> "torch.Tensor":
    import torch

    made = hidden.new_empty(len(targets), dtype=torch.float32)
    for start in range(0, len(targets), PIECE):
        piece = slice(start, start + PIECE)
        logits = head(hidden[piece]).float()
        logits = logits if temperature == 1.0 else logits / temperature
        made[piece] = -torch.nn.functional.cross_entropy(logits, targets[piece], reduction="none")
    return made


def _logprobs(
    hidden: "torch.Tensor", head: Any, targets: "torch.Tensor", temperature: float, weights: "torch.Tensor | None"
) -> "torch.Tensor":
    import torch

    kind = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else head.weight.dtype
    bias = None if head.bias is None else head.bias / temperature
    scaled = hidden if temperature == 1.0 else hidden / temperature  # of a plain linear layer: as good as its logits
    given = scaled.to(kind)
    options = {"accum_dtype": torch.float32, "chunk_mem_const": _chunk(given)}
    learns = any(part is not None and part.requires_grad for part in (head.weight, head.bias))
    if torch.is_grad_enabled() and (weights is not None or not learns):
        from runner.training._one_pass import OnePass

        made: torch.Tensor = OnePass.apply(given, head.weight, bias, targets, weights, options)  # type: ignore[no-untyped-call]
        return made
    from liger_kernel.transformers.functional import (  # type: ignore[import-not-found, unused-ignore]
        liger_fused_linear_cross_entropy,
    )

    loss: torch.Tensor = liger_fused_linear_cross_entropy(
        given, head.weight.to(kind), targets, bias=None if bias is None else bias.to(kind), reduction="none", **options
    )
    return -loss.float()


def _chunk(hidden: "torch.Tensor") -> int:
    """Liger's measure of a chunk of `CHUNK` bytes: how many times the size of the hidden states its logits may have."""
    return max(1, round(CHUNK / max(hidden.nbytes, 1)))


def possible(head: "torch.nn.Module") -> bool:
    """Whether the kernel is installed, runs here, and the head is a plain linear layer on a GPU."""
    import torch

    return installed() and type(head) is torch.nn.Linear and head.weight.is_cuda
