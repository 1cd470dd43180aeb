"""Peaks of known GPUs and the share of it that a training reaches (MFU), where the peak is known.

Operations of a token: 2 for each weight in the forward pass, 2 in the backward pass to the activations, 2 for the
gradient of each weight that learns (Kaplan et al. 2020, arXiv 2001.08361); embeddings are looked up and not counted; of
a mixture's experts count those that a token goes through.
"""

import math
import re
import resource
import sys
from typing import Any

PEAKS = {  # dense bfloat16, operations a second, from the makers' data sheets
    "H100": 989e12, "H100 PCIe": 756e12, "H100 NVL": 835e12, "H200": 989e12, "GH200": 989e12, "H800": 989e12,
    "H20": 148e12, "A100": 312e12, "A800": 312e12, "B200": 2250e12, "L40": 181e12, "L40S": 362e12, "L4": 121e12,
    "A10": 125e12, "A10G": 70e12, "RTX 4090": 165e12, "RTX 3090": 71e12,
}  # fmt: skip
SMALLER = ("Laptop", "Max-Q", "MIG")  # of the same name, and slower


def operations(model: Any) -> float:
    """Operations that one trained-on token takes, forward and backward: 6 for a weight that learns, 4 for a frozen one
    behind which something learns, 2 for one before all that does.
    """
    embedding = model.get_input_embeddings()
    head = model.get_output_embeddings()
    looked_up = {id(p) for p in embedding.parameters()} - {id(p) for p in head.parameters()} if embedding else set()
    weights = {id(p): (name, p) for name, p in model.named_parameters() if id(p) not in looked_up}.values()
    share, passed, made = _active(model.config), {id(p) for p in head.parameters()}, 0.0
    reached = False  # by gradients, which the head always is
    for name, p in weights:
        reached = reached or p.requires_grad
        each = 6.0 if p.requires_grad else 4.0 if reached or id(p) in passed else 2.0
        made += each * _numel(p) * (share if ".experts." in name else 1.0)
    return made


def _numel(weight: Any) -> int:
    """Of a weight in 4 bits (bitsandbytes) as many as it stands for: two lie in each of its bytes."""
    state = getattr(weight, "quant_state", None)
    return int(weight.numel() if state is None else math.prod(state.shape))


def _active(config: Any) -> float:
    """The share of a mixture's experts that a token goes through."""
    text = getattr(config, "text_config", None) or config
    experts = getattr(text, "num_experts", None) or getattr(text, "num_local_experts", None) or 0
    taken = getattr(text, "num_experts_per_tok", None)
    return float(taken / experts) if experts and taken else 1.0


def peak(name: str) -> float | None:
    """The peak of a GPU by its name; None when it is not known."""
    if any(word in name for word in SMALLER):
        return None
    found = [key for key in PEAKS if re.search(rf"(?<![\w-]){re.escape(key)}(?![^\W_])", name)]
    return PEAKS[max(found, key=len)] if found else None


def told(name: str) -> str:
    """How MFU is reckoned on a GPU of that name."""
    found = peak(name)
    if found is None:
        return f"mfu: not told, as the peak of {name} is not known"
    return (
        "mfu: operations (6 a weight that learns, 4 a frozen one, 2 one before all that learns, for each token) a "
        "second, of a peak of "
        f"{found / 1e12:g} TFLOP/s ({name})"
    )


def memory_gib() -> float:
    """The most memory used so far: of the GPU, else of this process, in GiB."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kib / 2**20 if sys.platform != "darwin" else kib / 2**30
