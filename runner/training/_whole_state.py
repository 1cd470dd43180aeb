"""A training's state in whole files that any number of devices reads, under every preset that can be put together.

Weights are as save_pretrained writes them; `optimizer.pt` is PyTorch's own, with the names of the weights it numbers.
Devices that each hold a part (FSDP2) put tensor after tensor together to save, and cut their part out of the files to
go on; nothing is exchanged then. Refuses files in which a weight that learns is missing.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME

from runner.core.errors import DataError

WRAPPERS = ("_orig_mod.", "_checkpoint_wrapped_module.")  # of compiling and checkpointing, in the names of weights


def names(model: Any, optimizer: Any) -> list[str]:
    """Of the weights in the optimizer's order."""
    told = {id(weight): bare(name) for name, weight in model.named_parameters()}
    return [told[id(weight)] for group in optimizer.param_groups for weight in group["params"]]


def bare(name: str) -> str:
    """A weight's name without what wraps its module."""
    for wrapper in WRAPPERS:
        name = name.replace(wrapper, "")
    return name


def gathered(value: Any, keep: bool) -> Any:
    """A tree with all parts of its tensors put together, on the CPU; all devices must call it.

    Args:
        keep: whether this device is the one that needs it; others get None in the place of tensors.
    """
    if isinstance(value, torch.Tensor):
        whole = value.full_tensor() if isinstance(value, DTensor) else value
        return whole.detach().to("cpu", copy=True) if keep else None
    if isinstance(value, dict):
        return {key: gathered(part, keep) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(gathered(part, keep) for part in value)
    return value


def load_optimizer_and_schedule(trainer: Any, folder: Path) -> None:
    """From a checkpoint of any preset that writes whole files."""
    load_optimizer(trainer.model, trainer.optimizer, folder / OPTIMIZER_NAME)
    load_schedule(trainer, folder)


def load_schedule(trainer: Any, folder: Path) -> None:
    """Give the schedule, and the optimizer's groups, the rate of a checkpoint."""
    groups, schedule = trainer.optimizer.param_groups, torch.load(folder / SCHEDULER_NAME, weights_only=True)
    for key in ("base_lrs", "_last_lr", "lr_lambdas"):  # DeepSpeed drops empty groups; all have one rate
        schedule[key] = schedule[key][:1] * len(groups)
    trainer.lr_scheduler.load_state_dict(schedule)
    for group in groups:
        group["lr"] = schedule["_last_lr"][0]


def load_optimizer(model: Any, optimizer: Any, file: Path) -> None:
    """Give an optimizer the state in a file, whichever order it was written in.

    Raises:
        DataError: it was the optimizer of other weights.
    """
    saved = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    own = names(model, optimizer)
    written: list[str] = saved.pop("names", own)
    told: list[dict[str, Any]] = saved.get("param_groups", optimizer.param_groups)  # ZeRO's are not kept: as they are
    sizes = [[len(group["params"]) for group in groups] for groups in (told, optimizer.param_groups)]
    strange = set(own) - set(written) if told is optimizer.param_groups else set(own) ^ set(written)
    if strange or sizes[0] != sizes[1]:
        raise DataError(f"{file}: is of an optimizer of other weights. Start anew with another output_dir.")
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    place = {name: number for number, name in enumerate(own)}
    state = {}
    for number, parts in saved["state"].items():
        if written[number] not in place:  # ZeRO's second name of tied weights
            continue
        at = place[written[number]]
        state[at] = {key: _like(part, weights[at]) for key, part in parts.items()}
    groups = [
        {**group, "params": numbered["params"]}
        for group, numbered in zip(told, optimizer.state_dict()["param_groups"], strict=True)
    ]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def moments(file: Path) -> dict[str, dict[str, torch.Tensor]]:
    """What an optimizer's file holds of each weight, by its name; mapped, not read."""
    found = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    return {name: found["state"].get(number, {}) for number, name in enumerate(found.get("names", []))}


def _like(value: Any, weight: torch.Tensor) -> Any:
    """A moment as the weight lies: this device's part of it where it is split."""
    if not isinstance(weight, DTensor) or not isinstance(value, torch.Tensor) or value.shape != weight.shape:
        return value
    there = value.to(weight.device)
    return distribute_tensor(there, weight.device_mesh, weight.placements, src_data_rank=None)


def load_weights(model: Any, folder: Path) -> None:
    """Fill a model, split over devices or not, from a checkpoint's safetensors files.

    Raises:
        DataError: a weight that learns is in none of them.
    """
    own = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers())
    filled = set()
    for name, value in saved(model, folder):
        if name in own:
            _fill(own[name], value)
            filled.add(id(own[name]))  # tied weights are one
    missing = [name for name, value in own.items() if value.requires_grad and id(value) not in filled]
    if missing:
        raise DataError(f"{folder}: holds no {missing[0]}. Start anew with another output_dir.")


def saved(model: Any, folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Names in the model, and values in the files. What transformers writes otherwise than it holds it (experts, that
    lie together and are written one by one) it reads itself, into a second model; what a file tells by the model's own
    name comes after that, and counts."""
    from safetensors import safe_open

    told, files = _file_names(model), sorted(folder.glob("*.safetensors"))
    written = set()
    for file in files:
        with safe_open(file, "pt") as tensors:
            written |= set(tensors.keys())
    if written - set(told) and not hasattr(model, "peft_config"):
        kind: Any = next(one for one in type(model).__mro__ if not one.__name__.startswith("FSDP"))
        yield from kind.from_pretrained(folder, dtype="auto").state_dict().items()
    for file in files:
        with safe_open(file, "pt") as tensors:
            for key in sorted(written & set(told) & set(tensors.keys())):
                yield told[key], tensors.get_tensor(key)


def _file_names(model: Any) -> Mapping[str, str]:
    """What each entry of the files is called in the model: an adapter's are written without the adapter's name."""
    state = dict(model.state_dict())
    if not hasattr(model, "peft_config"):
        return {bare(name): name for name in state}
    from peft import get_peft_model_state_dict

    own = {id(value): name for name, value in state.items()}
    written = get_peft_model_state_dict(model, state_dict=state)
    return {bare(key): own[id(value)] for key, value in written.items() if id(value) in own}


def _fill(target: torch.Tensor, value: torch.Tensor) -> None:
    with torch.no_grad():
        if isinstance(target, DTensor):
            there = value.to(target.device, target.dtype)
            part = distribute_tensor(there, target.device_mesh, target.placements, src_data_rank=None)
            target.to_local().copy_(part.to_local())
        else:
            target.copy_(value)
