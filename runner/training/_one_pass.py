"""Log-probabilities together with their gradient, in one pass over the logits.

Liger's kernel, asked for every single loss, is told only by the backward pass what each of them counts, and makes the
logits a second time there. Under a head that does not learn each place has a gradient of its own, which may be scaled
afterwards. The gradient of a head is summed over all places, so their weights must be known before: a loss that is a
weighted sum of the log-probabilities, or a multiple of it, knows them.
"""

from typing import Any

import torch


class OnePass(torch.autograd.Function):
    """float32 [N], of hidden [N, H] in the type of the products, a head's weight [V, H] and bias [V] or None in their
    own, and targets int64 [N]. weights: float32 [N] where the head learns, and the gradient that comes back must be a
    multiple of them; otherwise not asked. options: for Liger's kernel.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor,
        weights: torch.Tensor | None, options: dict[str, Any],
    ) -> torch.Tensor:  # fmt: skip
        """What autograd calls."""
        from liger_kernel.ops.fused_linear_cross_entropy import (  # type: ignore[import-not-found, unused-ignore]
            fused_linear_cross_entropy_forward,
        )

        kind, learns = hidden.dtype, any(ctx.needs_input_grad[1:3])
        weights = weights if learns else None
        assert weights is not None or not learns, "the gradient of a head that learns wants the weights before"
        loss, _, _, _, *made = fused_linear_cross_entropy_forward(
            hidden, weight.to(kind), targets, bias=None if bias is None else bias.to(kind), reduction="none",
            token_grad_output=None if weights is None else -weights, compute_gradients=any(ctx.needs_input_grad),
            weight_requires_grad=ctx.needs_input_grad[1], **options,
        )  # fmt: skip
        ctx.gradients, ctx.weights = made, weights
        ctx.kinds = [None if part is None else part.dtype for part in (hidden, weight, bias)]
        logprobs: torch.Tensor = -loss.float()
        return logprobs

    @staticmethod
    def backward(ctx: Any, *gradient: torch.Tensor) -> tuple[Any, ...]:
        """What autograd calls, once."""
        weights, (hidden, *learned) = ctx.weights, ctx.gradients
        ctx.gradients = None
        # in float32: a multiple rounded to bfloat16 would be off by as much for all of them
        if weights is None:
            return ((hidden.float() * -gradient[0][:, None]).to(ctx.kinds[0]), None, None, None, None, None)
        multiple = (gradient[0] * weights).sum() / (weights * weights).sum().clamp(min=torch.finfo(torch.float32).tiny)
        made = [(hidden.float() * multiple).to(ctx.kinds[0])]
        for part, kind in zip(learned, ctx.kinds[1:], strict=True):
            made.append(None if part is None else part.to(kind).mul_(multiple))
        return (*made, None, None, None)
