"""One number a place instead of a vocabulary: the head of a reward model, in float32 whatever the body is."""

import copy
from typing import Any

import torch
from torch.nn import functional

from runner.core.errors import ModelError


class ValueHead(torch.nn.Linear):
    """From a hidden state to a number. It starts small, at random: set the seed before."""

    def __init__(self, size: int, spread: float, device: Any) -> None:
        super().__init__(size, 1, bias=False, dtype=torch.float32, device=device)
        torch.nn.init.normal_(self.weight, std=spread)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """hidden: [..., size]; returns float32 [..., 1]."""
        with torch.autocast(hidden.device.type, enabled=False):
            return functional.linear(hidden.float(), self.weight.float())


def with_value_head(model: Any) -> tuple[Any, str]:
    """A language model with this head in place of its own, and the head's name.

    Raises:
        ModelError: it has no output layer to replace.
    """
    old = model.get_output_embeddings()
    name = next((name for name, module in model.named_modules() if module is old), None) if old is not None else None
    if name is None:
        raise ModelError(f"model.id: {type(model).__name__} has no output layer that a number could come from.")
    spread = float(getattr(model.config, "initializer_range", 0.02))
    model.config.tie_word_embeddings = False
    model.set_output_embeddings(ValueHead(old.in_features, spread, old.weight.device))
    return model, name


def classifier(model: Any, pad: int | None, dtype: torch.dtype | None) -> Any:
    """The same as transformers knows it: a model for sequence classification with one label, `score`.

    Args:
        model: of `with_value_head`, without an adapter around it. dtype: of the weights; None: as they are.

    Raises:
        ModelError: transformers has no such class for this family, or its head is called otherwise.
    """
    import transformers

    family: Any = transformers.AutoModelForSequenceClassification
    config = copy.deepcopy(model.config)
    config.num_labels, config.pad_token_id = 1, pad
    try:
        made: Any = family.from_config(config)
    except ValueError:
        made = None
    if made is None or not hasattr(made, "score"):
        raise ModelError(f"model.id: transformers has no reward model of the family of {type(model).__name__}.")
    body = getattr(model, model.base_model_prefix)
    getattr(made, made.base_model_prefix).load_state_dict(body.state_dict())
    made.score.load_state_dict(model.get_output_embeddings().state_dict())
    return made.to(dtype or next(body.parameters()).dtype)
