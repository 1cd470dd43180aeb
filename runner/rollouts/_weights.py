"""The weights of a model that learns, whole and one by one, named as in its model folder: what an engine is given.

An adapter is added to each weight on the way, so that neither the base nor its rounding is ever touched. Weights that
are split over devices (ZeRO-3, FSDP2) are put together one at a time; all devices must walk through them together.
"""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from runner.core.errors import ModelError
from runner.models.critic import NAME as VALUE_HEAD

BUCKET = 1 << 29  # bytes that are handed over together


def weights(model: Any, dtype: torch.dtype | None = None) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and value of every weight; tied ones once.

    Args:
        model: without the wrapper of the training, an adapter beside its base. dtype: of the values; None: as they are.

    Raises:
        ModelError: an adapter of a kind that is not a sum with its base (DoRA).
    """
    held = _adapted(model) if hasattr(model, "peft_config") else _plain(model)
    for name, value in held:
        yield name, value if dtype is None else value.to(dtype)


def is_split(model: Any) -> bool:
    """Whether devices must walk through the weights together."""
    return any(hasattr(one, "ds_id") or hasattr(one, "full_tensor") for one in model.parameters())


def buckets(named: Iterable[tuple[str, torch.Tensor]]) -> Iterator[list[tuple[str, torch.Tensor]]]:
    """The same in lists of at most BUCKET bytes; a larger weight is alone in its list."""
    made: list[tuple[str, torch.Tensor]] = []
    size = 0
    for name, value in named:
        bytes_of = value.numel() * value.element_size()
        if made and size + bytes_of > BUCKET:
            yield made
            made, size = [], 0
        made.append((name, value))
        size += bytes_of
    if made:
        yield made


def _plain(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    for name, parameter in model.named_parameters():
        if f".{VALUE_HEAD}." in name:  # of no use to an engine
            continue
        with _whole(parameter):
            yield name, _value(parameter)


def _adapted(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """The base's weights, those that an adapter changes with its part added."""
    from peft.tuners.lora import LoraLayer

    base = model.get_base_model()
    layers: dict[str, Any] = {name: part for name, part in base.named_modules() if isinstance(part, LoraLayer)}
    for name, parameter in base.named_parameters():
        if ".lora_" in name or ".original_module." in name or "lora_magnitude" in name:
            continue
        owner, mark, rest = name.rpartition(".base_layer.")
        layer = layers.get(owner) if mark else None
        plain = f"{owner}.{rest}" if mark else name.replace(".modules_to_save.default", "")
        if layer is None or rest != "weight":
            with _whole(parameter):
                yield plain, _value(parameter)
            continue
        with _whole(parameter, *layer.parameters()):
            yield plain, _with_adapter(layer, _value(parameter), plain)


def _with_adapter(layer: Any, value: torch.Tensor, name: str) -> torch.Tensor:
    made = value
    for adapter in layer.active_adapters:
        if adapter not in layer.lora_A:
            continue
        if getattr(layer, "use_dora", {}).get(adapter):
            raise ModelError(f"{name}: DoRA is no sum that vLLM could be given. Take train_type.lora.dora=false.")
        made = made.float() + layer.get_delta_weight(adapter).float().to(made.device)
    return made.to(value.dtype)


def _value(parameter: Any) -> torch.Tensor:
    held = parameter.data
    if hasattr(parameter, "quant_state"):  # 4 bits
        import bitsandbytes

        return torch.as_tensor(bitsandbytes.functional.dequantize_4bit(held, parameter.quant_state))
    if hasattr(parameter, "ds_id"):
        return torch.as_tensor(held.clone())  # it is whole only as long as it is held together
    return torch.as_tensor(held.full_tensor() if hasattr(held, "full_tensor") else held)


def _whole(*parameters: Any) -> Any:
    """Puts weights together that ZeRO-3 has split."""
    split = list({id(one): one for one in parameters if hasattr(one, "ds_id")}.values())
    if not split:
        return contextlib.nullcontext()
    from deepspeed.runtime.zero.partition_parameters import GatheredParameters

    return GatheredParameters(split)
