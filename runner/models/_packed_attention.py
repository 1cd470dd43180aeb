"""Causal attention over sequences that lie one after the other, kept apart by their bounds, as transformers calls it.

PyTorch's varlen_attn, and FlashAttention 4 as an operator of PyTorch's own, so that compiled layers hold it in one
graph (called directly it would break each layer's graph in two). Refuses what a kernel would silently leave out.
"""

import inspect
import warnings
from typing import Any

import torch

from runner.core.errors import ModelError

# What FlashAttention 4 says of its own arguments, with each kernel that it compiles: nothing that a user could mend.
warnings.filterwarnings("ignore", message="Argument aux_data ", category=UserWarning)

WHOLE = 32  # FlashAttention 4.0.0b36 has wrong gradients for heads of 16, 48 or 80; multiples of this are right
UNKNOWN = {"softcap": "a cap on attention's logits", "s_aux": "attention sinks"}  # what these kernels here leave out


def varlen(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, scaling: float | None = None,
    cu_seq_lens_q: Any = None, max_length_q: int | None = None, sliding_window: int | None = None, **more: Any,
) -> tuple[Any, None]:  # fmt: skip
    """Causal attention over packed sequences by PyTorch's kernel.

    Args:
        query: [1, heads, tokens, head_dim]; key and value the same with fewer heads where they are grouped.
        cu_seq_lens_q: bounds of the sequences, int32 [sequences + 1]. max_length_q: the longest one.

    Returns:
        [1, tokens, heads, head_dim], and no weights.
    """
    from torch.nn.attention.varlen import varlen_attn

    _check("varlen", query, cu_seq_lens_q, more)
    heads, shared = query.shape[1], key.shape[1]
    if heads != shared:  # grouped queries: older releases of PyTorch know no enable_gqa
        key, value = (part.repeat_interleave(heads // shared, dim=1) for part in (key, value))
    q, k, v = _laid_out(query, key, value)
    causal: dict[str, Any] = {"is_causal": True}
    if WINDOWED:
        causal = {"window_size": (sliding_window - 1 if sliding_window else -1, 0)}
    elif sliding_window:
        raise ModelError("model.attention: varlen of this PyTorch has no sliding window. Take flash_attention_2.")
    scaled = {"scale": scaling} if SCALED else {}
    bounds, longest = cu_seq_lens_q, max_length_q
    kernel: Any = varlen_attn
    return kernel(q, k, v, bounds, bounds, longest, longest, **causal, **scaled).unsqueeze(0), None


def flash4(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, scaling: float | None = None,
    cu_seq_lens_q: Any = None, max_length_q: int | None = None, sliding_window: int | None = None, **more: Any,
) -> tuple[Any, None]:  # fmt: skip
    """The same by FlashAttention 4; see `varlen`. Heads are filled up with zeros to a multiple of `WHOLE`."""
    _check("flash_attention_4", query, cu_seq_lens_q, more)
    size = query.shape[-1]
    q, k, v = (torch.nn.functional.pad(part, (0, -size % WHOLE)) for part in _laid_out(query, key, value))
    scale = scaling if scaling is not None else size**-0.5
    longest = max_length_q if max_length_q is not None else q.shape[0]
    made = _flash4(q, k, v, cu_seq_lens_q, longest, scale, sliding_window or 0)[0]
    return made[..., :size].unsqueeze(0), None


def _parameters() -> Any:
    """What this release's varlen_attn takes: PyTorch renamed `is_causal` to `window_size` between those we support."""
    from torch.nn.attention.varlen import varlen_attn

    return inspect.signature(varlen_attn).parameters


WINDOWED, SCALED = "window_size" in _parameters(), "scale" in _parameters()


def _check(name: str, query: Any, bounds: Any, more: dict[str, Any]) -> None:
    if bounds is None or query.shape[0] != 1:
        raise ModelError(f"model.attention: {name} takes packed batches only here. Take sdpa or auto for this work.")
    for key, meaning in UNKNOWN.items():
        if more.get(key) is not None:
            raise ModelError(f"model.attention: {name} leaves out {meaning}, which this model has. Take sdpa.")


def _laid_out(query: Any, key: Any, value: Any) -> list[Any]:
    """[tokens, heads, head_dim] each, in the type of autocast where it is on: norms with float32 weights leave it."""
    parts = [part[0].transpose(0, 1) for part in (query, key, value)]
    if torch.is_autocast_enabled(query.device.type):
        kind = torch.get_autocast_dtype(query.device.type)
        parts = [part.to(kind) for part in parts]
    return [part.contiguous() for part in parts]


@torch.library.custom_op("recipe_runner::flash4", mutates_args=())
def _flash4(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bounds: torch.Tensor, longest: int, scale: float, window: int
) -> tuple[torch.Tensor, torch.Tensor]:
    from flash_attn.cute.interface import _flash_attn_fwd  # type: ignore[import-not-found, unused-ignore]

    made = _flash_attn_fwd(
        q, k, v, **_bounded(bounds, longest, window), softmax_scale=scale, causal=True, return_lse=True
    )
    return made[0], made[1]


@_flash4.register_fake
def _(q: Any, k: Any, v: Any, bounds: Any, longest: int, scale: float, window: int) -> Any:
    return torch.empty_like(q), q.new_empty((q.shape[1], q.shape[0]), dtype=torch.float32)


@torch.library.custom_op("recipe_runner::flash4_backward", mutates_args=())
def _flash4_backward(
    grad: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, out: torch.Tensor, lse: torch.Tensor,
    bounds: torch.Tensor, longest: int, scale: float, window: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    from flash_attn.cute.interface import _flash_attn_bwd

    made = _flash_attn_bwd(q, k, v, out, grad.contiguous(), lse, scale, True, **_bounded(bounds, longest, window))
    return made[0], made[1], made[2]


@_flash4_backward.register_fake
def _(grad: Any, q: Any, k: Any, v: Any, *_: Any) -> Any:
    return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


def _bounded(bounds: torch.Tensor, longest: int, window: int) -> dict[str, Any]:
    """Bounds, and how far back a token looks where a window slides (`window` tokens, itself included; 0: all)."""
    made: dict[str, Any] = {
        "cu_seqlens_q": bounds, "cu_seqlens_k": bounds, "max_seqlen_q": longest, "max_seqlen_k": longest
    }  # fmt: skip
    return made | ({"window_size_left": window - 1, "window_size_right": 0} if window else {})


def _keep(ctx: Any, inputs: Any, output: Any) -> None:
    q, k, v, bounds, ctx.longest, ctx.scale, ctx.window = inputs
    ctx.save_for_backward(q, k, v, *output, bounds)


def _gradients(ctx: Any, grad: Any, _: Any) -> Any:
    q, k, v, out, lse, bounds = ctx.saved_tensors
    made = _flash4_backward(grad, q, k, v, out, lse, bounds, ctx.longest, ctx.scale, ctx.window)
    return (*made, None, None, None, None)


_flash4.register_autograd(_gradients, setup_context=_keep)
