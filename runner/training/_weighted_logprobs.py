"""Log-probabilities together with the gradient of their weighted sum, in one pass over the logits.

Liger's kernel, asked for every single loss, is told only by the backward pass what each of them counts, and makes the
logits a second time there. A loss that is such a sum, or a multiple of it, has its weights before.
"""

from typing import Any

import torch


class WeightedLogprobs(torch.autograd.Function):
    """float32 [N], of hidden [N, H], a head's weight [V, H] and bias [V] or None, and targets int64 [N]. The gradient
    that comes back must be a multiple of `weights`, float32 [N]. options: for Liger's kernel.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor,
        weights: torch.Tensor, options: dict[str, Any],
    ) -> torch.Tensor:  # fmt: skip
        """What autograd calls."""
        from liger_kernel.ops.fused_linear_cross_entropy import (  # type: ignore[import-not-found, unused-ignore]
            fused_linear_cross_entropy_forward,
        )

        loss, _, _, _, *made = fused_linear_cross_entropy_forward(
            hidden, weight, targets, bias=bias, reduction="none", token_grad_output=-weights, compute_gradients=True,
            weight_requires_grad=ctx.needs_input_grad[1], **options,
        )  # fmt: skip
        ctx.gradients, ctx.weights = made, weights
        logprobs: torch.Tensor = -loss.float()
        return logprobs

    @staticmethod
    def backward(ctx: Any, *gradient: torch.Tensor) -> tuple[Any, ...]:
        """What autograd calls, once."""
        weights = ctx.weights
        multiple = (gradient[0] * weights).sum() / (weights * weights).sum().clamp(min=torch.finfo(torch.float32).tiny)
        made = [None if part is None else part.mul_(multiple.to(part.dtype)) for part in ctx.gradients]
        ctx.gradients = None
        return (*made, None, None, None)
