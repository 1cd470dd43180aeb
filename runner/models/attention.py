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


def choose(wanted: str, device: str, dtype: str = "auto") -> Attention:
    """Resolve `model.attention`.

    Args:
        wanted: "auto" or a name. device: "cuda" or "cpu". dtype: of products; float32 is for PyTorch's attention alone.

    Raises:
        ModelError: a kernel was asked for by name that is not installed or does not run on the device.
    """
    if dtype == "float32" and wanted in PACKED:
        raise ModelError(f"model.attention: {wanted} takes no float32, which is model.dtype. Take sdpa or auto.")
    if wanted == "auto":
        if dtype == "float32" and device == "cuda":
            return Attention("sdpa", "float32: padded batches with PyTorch's attention")
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


def implementation(name: str, training: bool) -> str:
    """The name by which transformers knows a kernel; ours over packed sequences are made known to it here."""
    from transformers import AttentionInterface, AttentionMaskInterface

    if name != "varlen" and not (name == "flash_attention_4" and training):
        return name
    from runner.models import _packed_attention

    known = "packed_varlen" if name == "varlen" else "packed_fa4"  # "flash" in it would make transformers load its own
    AttentionInterface.register(known, _packed_attention.varlen if name == "varlen" else _packed_attention.flash4)
    AttentionMaskInterface.register(known, _no_mask)
    return known


def _no_mask(*_: Any, **__: Any) -> None:
    """Bounds isolate the documents: no mask is made."""
