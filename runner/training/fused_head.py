"""Liger's fused linear cross-entropy in the place of a model's output layer: log-probabilities without the logits.

Logits of 8,000 places and 150,000 tokens take 2.4 GB in bfloat16 and several times that with their gradient; the kernel
makes them piece by piece, forward and again backward, and weights of any kind may be put on the result. It stands in
only where it gives what the model itself gives: a plain linear head whose output no later step caps or scales, which
is tried on the model and not guessed from its name.
"""

import contextlib
import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@contextlib.contextmanager
def fused(head: "torch.nn.Module", targets: "torch.Tensor", temperature: float, fuse: bool) -> Iterator[None]:
    """While it lasts, the head gives the log-probabilities of the targets, float32 [N], when `fuse`.

    Args:
        head: a linear layer that is given [N, hidden]. targets: int64 [N]. temperature: logits are divided by it.
    """
    if not fuse:
        yield
        return
    own = head.__dict__.get("forward")  # of whoever stands in for it already
    head.__dict__["forward"] = lambda hidden: _logprobs(hidden, head, targets, temperature)
    try:
        yield
    finally:
        head.__dict__.pop("forward")
        head.__dict__.update({} if own is None else {"forward": own})


def _logprobs(hidden: "torch.Tensor", head: Any, targets: "torch.Tensor", temperature: float) -> "torch.Tensor":
    import torch
    from liger_kernel.transformers.functional import (  # type: ignore[import-not-found, unused-ignore]
        liger_fused_linear_cross_entropy,
    )

    kind = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else head.weight.dtype
    bias = None if head.bias is None else head.bias.to(kind) / temperature
    scaled = hidden if temperature == 1.0 else hidden / temperature  # of a plain linear layer: as good as its logits
    loss: torch.Tensor = liger_fused_linear_cross_entropy(
        scaled.to(kind), head.weight.to(kind), targets, bias=bias, reduction="none", accum_dtype=torch.float32
    )
    return -loss.float()


def possible(head: "torch.nn.Module") -> bool:
    """Whether the kernel is installed, runs here, and the head is a plain linear layer on a GPU."""
    import torch

    if importlib.util.find_spec("liger_kernel") is None:
        return False
    return type(head) is torch.nn.Linear and head.weight.is_cuda
