"""Weights of linear layers in the order in which a CPU multiplies with them. PyTorch's own product orders them anew
at every call, which is most of the time of a step that makes one token for each of a few rows.

For float32 on a CPU alone; layers become unfit for anything but their forward pass.
"""

from functools import partial
from typing import Any

import torch

ROWS = 16  # of a product, for which the order is the best


def pack(model: torch.nn.Module) -> None:
    """Pack every plain linear layer; weights that serve elsewhere too (tied embeddings) stay there as they are."""
    mkldnn: Any = torch.backends.mkldnn
    if not (mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return
    tied = {id(part.weight) for part in model.modules() if isinstance(part, torch.nn.Embedding)}
    for layer in [part for part in model.modules() if type(part) is torch.nn.Linear]:
        weight = layer.weight
        if weight.device.type != "cpu" or weight.dtype != torch.float32:
            continue
        order = torch.ops.mkldnn._reorder_linear_weight
        packed: Any = order(weight.detach(), ROWS)
        layer.forward = partial(_product, packed, layer.bias)  # type: ignore[method-assign]
        if id(weight) not in tied:
            layer.weight = torch.nn.Parameter(packed, requires_grad=False)


def _product(packed: torch.Tensor, bias: torch.Tensor | None, given: torch.Tensor) -> torch.Tensor:
    made: torch.Tensor = torch.ops.mkldnn._linear_pointwise(given, packed, bias, "none", [], "")
    return made
