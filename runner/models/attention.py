"""Which attention kernel, and why. On a GPU sequences are packed without padding and a varlen kernel keeps them apart;
a dense mask is never made there. On a CPU sequences are padded and PyTorch's own attention serves.
"""

import importlib.util
from dataclasses import dataclass
from typing import Any

from runner.core.errors import ModelError

FLASH = ("flash_attention_4", "flash_attention_3", "flash_attention_2")
MODULES = {
    "flash_attention_4": "flash_attn.cute",
    "flash_attention_3": "flash_attn_interface",
    "flash_attention_2": "flash_attn_2_cuda",
}
PACKED = (*FLASH, "varlen")


@dataclass(frozen=True)
class Attention:
    """name: as transformers knows it. packed: whether documents may lie one after the other without padding."""

    name: str
    reason: str

    @property
    def packed(self) -> bool:
        """Whether the kernel takes sequences by their bounds (cu_seqlens)."""
        return self.name in PACKED


def choose(wanted: str, device: str) -> Attention:
    """Resolve `model.attention`.

    Args:
        wanted: "auto" or a name. device: "cuda" or "cpu".

    Raises:
        ModelError: a kernel was asked for by name that is not installed or does not run on the device.
    """
    if wanted == "auto":
        if device != "cuda":
            return Attention("sdpa", "no GPU: padded batches with PyTorch's attention")
        best = next((name for name in FLASH if _installed(name)), "varlen")
        why = (
            "the newest FlashAttention installed"
            if best in FLASH
            else "no FlashAttention installed: PyTorch's varlen_attn"
        )
        return Attention(best, why)
    if wanted in PACKED and device != "cuda":
        raise ModelError(f"model.attention: {wanted} runs on a GPU only. Take sdpa or auto.")
    if wanted in FLASH and not _installed(wanted):
        raise ModelError(f"model.attention: {wanted} needs the module {MODULES[wanted]}. Install the extra: flash.")
    return Attention(wanted, "as asked")


def _installed(name: str) -> bool:
    module = MODULES[name]
    try:
        found = importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
    if not found or name == "flash_attention_2":
        return found
    import torch

    return torch.cuda.is_available() and torch.cuda.get_device_capability()[0] >= 9


def register_varlen() -> None:
    """Make PyTorch's varlen_attn known to transformers under the name "varlen"; doing it twice is harmless."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register("varlen", varlen_forward)
    AttentionMaskInterface.register("varlen", _no_mask)


def _no_mask(*_: Any, **__: Any) -> None:
    """Bounds isolate the documents: no mask is made."""


def varlen_forward(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, scaling: float | None = None,
    cu_seq_lens_q: Any = None, max_length_q: int | None = None, sliding_window: int | None = None, **_: Any,
) -> tuple[Any, None]:  # fmt: skip
    """Causal attention over packed sequences.

    Args:
        query: [1, heads, tokens, head_dim]; key and value the same with fewer heads where they are grouped.
        cu_seq_lens_q: bounds of the sequences, int32 [sequences + 1]. max_length_q: the longest one.

    Returns:
        [1, tokens, heads, head_dim], and no weights.
    """
    import torch
    from torch.nn.attention.varlen import varlen_attn

    if cu_seq_lens_q is None or query.shape[0] != 1:
        raise ModelError("model.attention: varlen takes packed batches only. Take sdpa or auto for this work.")
    if torch.is_autocast_enabled(query.device.type):  # norms with float32 weights leave the type of autocast
        kind = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(kind), key.to(kind), value.to(kind)
    heads, shared = query.shape[1], key.shape[1]
    if heads != shared:  # grouped queries: older releases of PyTorch know no enable_gqa
        key, value = (part.repeat_interleave(heads // shared, dim=1) for part in (key, value))
    q, k, v = (part[0].transpose(0, 1).contiguous() for part in (query, key, value))
    window = (sliding_window - 1 if sliding_window else -1, 0)
    out = _call(varlen_attn, q, k, v, cu_seq_lens_q, max_length_q, scaling, window)
    return out.unsqueeze(0), None


def _call(kernel: Any, q: Any, k: Any, v: Any, bounds: Any, longest: Any, scale: float | None, window: Any) -> Any:
    """PyTorch renamed `is_causal` to `window_size` between the releases that we support."""
    import inspect

    named = inspect.signature(kernel).parameters
    causal: dict[str, Any] = {"window_size": window} if "window_size" in named else {"is_causal": True}
    scaled = {"scale": scale} if "scale" in named else {}
    return kernel(q, k, v, bounds, bounds, int(longest), int(longest), **causal, **scaled)
