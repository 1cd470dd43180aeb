"""A head beside a language model's own that foretells a number at each predicted place, on the same hidden state.

It is a part of the output layer, so that whatever wraps, saves and resumes the model takes it along; `detach` removes
it before the model is written for others.
"""

from typing import Any

NAME = "value_head"


class Critic:
    """The head of a model. last: float32 [N], what it told at the places of the last forward pass."""

    def __init__(self, model: Any) -> None:
        from runner.models._value_head import ValueHead

        self.head = model.get_output_embeddings()
        spread = float(getattr(model.config, "initializer_range", 0.02))
        self.head.add_module(NAME, ValueHead(self.head.in_features, spread, self.head.weight.device))
        self._hook = self.head.register_forward_hook(self._tell)
        self.last: Any = None

    def _tell(self, head: Any, given: tuple[Any, ...], made: Any) -> None:
        self.last = getattr(head, NAME)(given[0]).squeeze(-1)

    def detach(self) -> None:
        """Remove it from the model."""
        self._hook.remove()
        delattr(self.head, NAME)
        self.last = None
