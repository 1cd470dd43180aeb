"""Dropout of a model that is to learn: whether there is any, and off where its noise would hide small differences."""

from typing import Any


def has_dropout(model: Any) -> bool:
    """Whether anything is dropped out while it learns."""
    from torch.nn import Dropout

    return any(
        (module.p if isinstance(module, Dropout) else getattr(module, "attention_dropout", None) or 0.0) > 0.0
        for module in model.modules()
    )


def without_dropout(model: Any) -> Any:
    """The model with every dropout at 0: layers of their own, an adapter's, and those inside attention."""
    from torch.nn import Dropout

    for module in model.modules():
        if isinstance(module, Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0
    return model
