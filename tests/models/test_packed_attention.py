"""FlashAttention 4 is given heads of a size that its gradients are right for; the kernel itself is tested on a GPU."""

from typing import Any

import pytest
import torch

from runner.models import _packed_attention


@pytest.mark.parametrize("size", [16, 48, 64, 80, 128])
def test_heads_are_filled_up_with_zeros(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Neither the answer nor the gradients feel it."""
    seen = []

    def kernel(q: Any, k: Any, v: Any, bounds: Any, longest: int, scale: float, window: int) -> Any:
        seen.append(q.shape[-1])
        parts = (part.transpose(0, 1) for part in (q, k, v))
        made = torch.nn.functional.scaled_dot_product_attention(*parts, is_causal=True, scale=scale)
        return made.transpose(0, 1), None

    monkeypatch.setattr(_packed_attention, "_flash4", kernel)
    torch.manual_seed(0)
    given = [torch.randn(1, 2, 9, size, requires_grad=True) for _ in range(3)]
    bounds = torch.tensor([0, 9], dtype=torch.int32)
    made, _ = _packed_attention.flash4(None, *given, None, cu_seq_lens_q=bounds, max_length_q=9)
    plain = torch.nn.functional.scaled_dot_product_attention(*given, is_causal=True).transpose(1, 2)
    assert seen == [-(-size // 32) * 32] and made.shape == plain.shape
    assert torch.allclose(made, plain, atol=1e-5)
    towards = torch.randn_like(plain)
    gradients = (torch.autograd.grad(one, given, towards) for one in (made, plain))
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(*gradients, strict=True))
