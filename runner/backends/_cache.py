"""The keys and values of a batch whose rows come and go. Rows are right-aligned: the newest token of every row stands
in the last column, so that leaving rows let the left side be cut off and joining rows are padded there.
"""

import inspect
from typing import Any

import torch
from transformers import Cache, DynamicCache, PretrainedConfig
from transformers.cache_utils import DynamicLayer

ROOM = 64  # tokens that a layer can grow by before its buffers are copied


class RoomyLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """A layer that writes into buffers with room to grow; concatenating at every token would copy the whole cache."""

    keys: Any
    values: Any

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append along the tokens; returns the keys and values of all tokens so far."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._buffers = (_buffer(key_states, 0), _buffer(value_states, 0))
        held, wanted = self.get_seq_length(), self.get_seq_length() + key_states.shape[-2]
        if wanted > self._buffers[0].shape[-2]:
            self._buffers = (_grown(self.keys, key_states), _grown(self.values, value_states))
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[..., held:wanted, :] = states
        self._show(wanted)
        return self.keys, self.values

    def keep(self, rows: torch.Tensor, cut: int, joining: "RoomyLayer | None") -> None:
        """Keep these rows without their first `cut` columns, and append the rows of another layer."""
        kept = [tensor[rows][..., cut:, :] for tensor in (self.keys, self.values)]
        width = kept[0].shape[-2]
        if joining is not None:
            width = max(width, joining.get_seq_length())
            others = (joining.keys, joining.values)
            kept = [torch.cat([_widened(a, width), _widened(b, width)]) for a, b in zip(kept, others, strict=True)]
        self._buffers = (_buffer(kept[0], width), _buffer(kept[1], width))
        for buffer, states in zip(self._buffers, kept, strict=True):
            buffer[..., :width, :] = states
        self._show(width)

    def close_gaps(self, source: torch.Tensor) -> None:
        """Take each row's columns from where `source` (rows, columns) says."""
        for states in (self.keys, self.values):  # views of the buffers
            states.copy_(states.gather(2, source[:, None, :, None].expand_as(states)))

    def _show(self, length: int) -> None:
        self.keys, self.values = (buffer[..., :length, :] for buffer in self._buffers)


def keyword(model: Any) -> str:
    """How the model's forward calls its cache: transformers 5.24 named it anew."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "cache" if "cache" in inspect.signature(base.forward).parameters else "past_key_values"


def _buffer(like: torch.Tensor, length: int) -> torch.Tensor:
    return like.new_zeros((*like.shape[:2], length + ROOM, like.shape[-1]))


def _grown(held: torch.Tensor, coming: torch.Tensor) -> torch.Tensor:
    length = held.shape[-2] if held.numel() else 0
    made = _buffer(coming, length + coming.shape[-2])
    if length:
        made[..., :length, :] = held
    return made


def _widened(states: torch.Tensor, width: int) -> torch.Tensor:
    return torch.nn.functional.pad(states, (0, 0, width - states.shape[-2], 0))


def is_rolling(config: PretrainedConfig) -> bool:
    """Whether every layer attends to all tokens: then rows can join a running batch.

    Sliding windows and recurrent states cannot be shifted: such a model answers batch after batch.
    """
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=config).layers)


def empty(config: PretrainedConfig) -> Any:
    """A cache that suits the model."""
    made = DynamicCache(config=config)
    return Cache(layers=[_layer() for _ in made.layers]) if is_rolling(config) else made


def _layer() -> RoomyLayer:
    return RoomyLayer()  # type: ignore[no-untyped-call]


def keep(cache: Any, rows: list[int], cut: int, joining: Any = None) -> Any:
    """The cache with these rows only, its first `cut` columns left out, and the rows of `joining` after them."""
    for place, layer in enumerate(cache.layers):
        index = torch.tensor(rows, device=layer.keys.device)
        layer.keep(index, cut, None if joining is None else joining.layers[place])
    return cache


def repeated(cache: Any, length: int, rows: int) -> Any:
    """The first tokens of a cache of one row, for so many rows."""
    layers: list[Any] = [_layer() for _ in cache.layers]
    for layer, held in zip(layers, cache.layers, strict=True):
        layer.update(*(states[..., :length, :].expand(rows, -1, -1, -1) for states in (held.keys, held.values)))
    return Cache(layers=layers)


def close_gaps(cache: Any, common: int, gaps: list[int]) -> None:
    """Rows whose first `common` columns are followed by a gap are made whole again: those columns move to the right."""
    if not any(gaps):
        return
    width = torch.tensor(gaps, device=cache.layers[0].keys.device)[:, None]
    columns = torch.arange(cache.get_seq_length(), device=width.device)[None]
    source = torch.where(columns < width + common, (columns - width).clamp(min=0), columns)
    for layer in cache.layers:
        layer.close_gaps(source.to(layer.keys.device))
