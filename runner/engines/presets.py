"""What each `parallelism.preset` means for the trainer: its arguments, the proof that it is at work, who resumes whom.

ddp: PyTorch's DistributedDataParallel. zero*: see zero.py. fsdp2: PyTorch's fully_shard through accelerate, Zhao et al.
2023 (arXiv 2304.11277).
"""

import importlib.util
import os
import warnings
from collections.abc import Mapping
from typing import Any

from runner.core.errors import ConfigError, StageError
from runner.core.specs import Parallelism, TrainType
from runner.engines import launch, zero

FSDP2 = {
    "version": 2,
    "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
    "reshard_after_forward": True,
    "state_dict_type": "FULL_STATE_DICT",  # weights are put together to be written
}
# What accelerate and DeepSpeed call by names that PyTorch is about to change: nothing that a user could mend.
OLD_NAMES = ("`broadcast_buffers` is deprecated", r"`torch\.distributed\.\w+` is deprecated")
ANEW = "or start anew from its weights: model={folder}, on_change=new."
WHOLE = ("single", "ddp")  # every device has all of the state
WHOLE_FILES = (*WHOLE, "fsdp2")  # write and read the same files, with any number of devices
UNEVEN = ("adafactor", "adamw_8bit")  # keep other things than moments as large as their weights


def check(parallelism: Parallelism, train_type: TrainType, key: str) -> None:
    """Refuse what no engine here can do, when planning.

    Raises:
        ConfigError: several devices without a preset, or weights held in 4 bits that should be split over devices.
    """
    for name in ("gpus", "nodes"):
        if parallelism.preset == "single" and getattr(parallelism, name) > 1:
            raise ConfigError(
                f"{key}.{name}", f"{getattr(parallelism, name)}, and the preset single trains on one device",
                "Take another, such as parallelism=ddp.",
            )  # fmt: skip
    if train_type.kind == "qlora" and parallelism.preset not in (*WHOLE, "zero1", "zero2"):
        raise ConfigError(
            f"{key}.preset", f"{parallelism.preset} splits weights, and those held in 4 bits (qlora) cannot be",
            "Take ddp, zero1 or zero2.",
        )  # fmt: skip


def keywords(parallelism: Parallelism, gpu: bool, max_grad_norm: float, bf16: bool) -> dict[str, Any]:
    """TrainingArguments' keywords for a preset. bf16: whether products run in bfloat16."""
    made: dict[str, Any] = {"ddp_timeout": parallelism.timeout}
    if launch.spread(parallelism):
        for old in OLD_NAMES:
            warnings.filterwarnings("ignore", message=old, category=FutureWarning)
        if not gpu:
            made["ddp_backend"] = "gloo"
            _meet(parallelism.timeout)
    if parallelism.preset in zero.STAGES:
        if not gpu:
            os.environ["DS_ACCELERATOR"] = "cpu"  # it would look for GPUs otherwise, and is read at import
        made["deepspeed"] = zero.config(parallelism.preset, gpu, max_grad_norm, bf16)
    if parallelism.preset == "fsdp2":
        made |= {"fsdp": True, "fsdp_config": dict(FSDP2)}
    return made


def _meet(timeout: int) -> None:
    """Without a GPU TrainingArguments drop `ddp_timeout`, and a device that hangs would be waited for half an hour."""
    from datetime import timedelta

    from torch import distributed

    if not distributed.is_initialized():
        distributed.init_process_group("gloo", timeout=timedelta(seconds=timeout))


def prove(accelerator: Any, parallelism: Parallelism) -> None:
    """accelerate passes over what it cannot do without a word (FSDP on a CPU): that must not happen.

    Raises:
        StageError: another engine than the preset's is at work.
    """
    if not launch.spread(parallelism):
        return
    at_work = accelerator.distributed_type.value
    wanted = "DEEPSPEED" if parallelism.preset in zero.STAGES else "FSDP" if parallelism.preset == "fsdp2" else "MULTI_"
    if not at_work.startswith(wanted):
        raise StageError(
            f"parallelism.preset: {parallelism.preset} was asked for and accelerate runs {at_work}. "
            "FSDP2 needs a GPU. Take ddp, or zero1 to zero3, on a CPU."
        )


def cannot_resume(facts: Mapping[str, Any], parallelism: Parallelism, devices: int, optimizer: str) -> str | None:
    """Why a checkpoint of other devices cannot be gone on from, or None.

    Args:
        facts: of the checkpoint: preset and devices. optimizer: its name, the same before and now.
    """
    preset, before = facts.get("preset", "single"), facts.get("devices", 1)
    if as_it_is(facts, parallelism, devices):
        return None
    stay = f"Go on with parallelism={preset} on {before} device{'' if before == 1 else 's'}, {ANEW}"
    if preset in zero.STAGES and optimizer != "adamw":
        return f"what {optimizer} keeps in the parts of {preset} cannot be put together, only what adamw keeps. {stay}"
    if parallelism.preset in zero.STAGES and optimizer in UNEVEN:
        return f"what {optimizer} keeps cannot be split for {parallelism.preset}, only what adamw and sgd keep. {stay}"
    if preset in zero.STAGES and importlib.util.find_spec("deepspeed") is None:
        return f"only deepspeed can put the parts of {preset} together. pip install deepspeed, {ANEW}"
    return None


def moved(facts: Mapping[str, Any], parallelism: Parallelism, devices: int) -> bool:
    """Whether a checkpoint is of another preset or number of devices."""
    return (facts.get("preset", "single"), facts.get("devices", 1)) != (parallelism.preset, devices)


def as_it_is(facts: Mapping[str, Any], parallelism: Parallelism, devices: int) -> bool:
    """Whether the preset at work reads the files of a checkpoint: ZeRO's own are for as many devices, and no other."""
    if facts.get("preset") in zero.STAGES:
        return not moved(facts, parallelism, devices)
    return parallelism.preset in WHOLE_FILES


def to_be_put_together(facts: Mapping[str, Any], parallelism: Parallelism, devices: int) -> bool:
    """Whether a checkpoint lies in parts that the preset at work cannot read as they are."""
    return facts.get("preset") in zero.STAGES and not as_it_is(facts, parallelism, devices)


def whole_state(trainer: Any) -> dict[str, Any] | None:
    """The weights of a model that is split over devices, put together on the first one; all devices must call it.

    None where each device has the whole model.
    """
    accelerator = trainer.accelerator
    if accelerator.is_fsdp2:
        return dict(accelerator.get_state_dict(trainer.model))
    if trainer.is_deepspeed_enabled and accelerator.deepspeed_config["zero_optimization"]["stage"] == 3:
        return dict(accelerator.get_state_dict(trainer.deepspeed) or {})
    return None
