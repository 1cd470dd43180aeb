"""The weights of a model that learns, whole and one by one, named as in its model folder: what an engine is given.

An adapter is added to each weight on the way, so that neither the base nor its rounding is ever touched. Weights that
are split over devices (ZeRO-3, FSDP2) are put together one at a time; all devices must walk through them together.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch

from runner.core.errors import ModelError
from runner.models.critic import NAME as VALUE_HEAD

BUCKET = 1 << 29  # bytes that are handed over together
INSTEAD = "Take backend=transformers."


def weights(model: Any, dtype: torch.dtype | None = None) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and value of every weight; tied ones once.

    Args:
        model: without the wrapper of the training, an adapter beside its base. dtype: of the values; None: as they are.

    Raises:
        ModelError: an adapter of a kind that is not a sum with its base (such as DoRA).
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
    from peft.tuners.tuners_utils import BaseTunerLayer

    base = model.get_base_model()
    layers: dict[str, Any] = {name: part for name, part in base.named_modules() if isinstance(part, BaseTunerLayer)}
    for name, layer in layers.items():
        _check_sum(name, layer)
    _check_tied(base, layers)
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
            yield plain, _with_adapter(layer, _value(parameter))


def _check_sum(name: str, layer: Any) -> None:
    """Refuse an adapter that is more, or something else, than low ranks added to one weight of a layer."""
    from peft.tuners.lora.layer import LoraLayer, MultiheadAttention, ParamWrapper

    if not isinstance(layer, LoraLayer) or isinstance(layer, MultiheadAttention | ParamWrapper):
        raise ModelError(f"{name}: {type(layer).__name__} of peft is no sum that vLLM could be given. {INSTEAD}")
    for adapter in layer.active_adapters:
        if getattr(layer, "use_dora", {}).get(adapter):
            raise ModelError(f"{name}: DoRA is no sum that vLLM could be given. Take train_type.lora.dora=false.")
        if adapter not in layer.r:  # it is on other layers
            continue
        ranks = adapter in layer.lora_A or adapter in layer.lora_embedding_A
        if not ranks or adapter in layer.lora_variant or layer.lora_bias.get(adapter):
            raise ModelError(f"{name}: its adapter is not low ranks alone, as vLLM could be given them. {INSTEAD}")


def _check_tied(base: Any, layers: Mapping[str, Any]) -> None:
    """Refuse an adapter on one of two layers that have the same weight: an engine has it once, with or without."""
    sides: dict[int, dict[str, bool]] = {}
    for name, parameter in base.named_parameters(remove_duplicate=False):
        owner = name.rpartition(".base_layer.")[0]
        sides.setdefault(id(parameter), {})[name] = owner in layers or ".original_module." in name
    for names in sides.values():
        if len(set(names.values())) > 1:
            told = " and ".join(names).replace(".base_layer", "").replace(".original_module", "")
            raise ModelError(f"{told}: one weight, and the adapter is on one of them alone. {INSTEAD}")


def _with_adapter(layer: Any, value: torch.Tensor) -> torch.Tensor:
    made = value
    for adapter in layer.active_adapters:
        if adapter in layer.r:
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
