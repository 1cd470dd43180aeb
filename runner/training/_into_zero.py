"""ZeRO goes on from a checkpoint of whole files: of another preset, stage or number of devices.

Weights come into the model before DeepSpeed splits it. Moments are made by its first step only, so one is taken without
a gradient and at no rate; then each device puts its part of every float32 weight and moment where DeepSpeed's own
functions say, one weight at a time from the mapped files. Refuses an optimizer that keeps anything else than moments as
large as their weights, or that did not count the same steps for all of them: ZeRO counts them once.
"""

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers.trainer import OPTIMIZER_NAME

from runner.core.errors import DataError
from runner.core.types import UNTRAINED, Encoded
from runner.data.collate import collate
from runner.engines import zero
from runner.training import _whole_state, checkpoints
from runner.training._predictions import head_of, predict
from runner.training._random_state import RandomState

STEP = "step"
ANEW = "Start anew with another output_dir."


def needed(trainer: Any, folder: Path) -> bool:
    """Whether a checkpoint lies in other files than the engine's own parts."""
    return bool(trainer.is_deepspeed_enabled) and not any(folder.glob("global_step*"))


@contextmanager
def filled(trainer: Any, folder: Path) -> Iterator[None]:
    """Around the making of the engine: it begins where the checkpoint in `folder` ended. All devices call it.

    Raises:
        DataError: a weight that learns is missing, or the optimizer is one that ZeRO cannot take over.
    """
    with _unsplit(trainer):
        _whole_state.load_weights(trainer.model, folder)
    state = _of_optimizer(trainer.model, folder / OPTIMIZER_NAME)
    yield
    before = RandomState()
    _step_without_gradient(trainer)
    before.restore()
    with _unsplit(trainer):
        _put_parts(trainer, state, folder)
    _whole_state.load_schedule(trainer, folder)
    trainer.deepspeed.global_steps = int(folder.name.removeprefix(checkpoints.PREFIX))


@contextmanager
def _unsplit(trainer: Any) -> Iterator[None]:
    """transformers splits every model that it loads while a config of stage 3 is known to it: not the one here."""
    known: Any = importlib.import_module("transformers.integrations.deepspeed")
    known.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        known.set_hf_deepspeed_config(trainer.args.hf_deepspeed_config)


def _step_without_gradient(trainer: Any) -> None:
    engine = trainer.model_wrapped
    for group in trainer.optimizer.param_groups:
        group["lr"] = 0.0
    micro = collate([Encoded([0, 0], [UNTRAINED, 0], None)], [0], trainer.updates.cutting.packed)
    found = predict(engine, head_of(trainer.model), micro.to(trainer.args.device))
    engine.set_gradient_accumulation_boundary(True)
    engine.backward(found.logits.float().sum() * 0.0)
    engine.step()


def _learning(model: Any) -> dict[str, torch.nn.Parameter]:
    """By their names in files; tied weights have several."""
    named = model.named_parameters(remove_duplicate=False)
    return {_whole_state.bare(name): weight for name, weight in named if weight.requires_grad}


def _of_optimizer(model: Any, file: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Moments and steps of every weight that learns, by one of its names; the model is not split yet."""
    learning = _learning(model)
    found = {name: state for name, state in _whole_state.moments(file).items() if name in learning}
    if {id(learning[name]) for name in found} != {id(weight) for weight in learning.values()}:
        raise DataError(f"{file}: is of an optimizer of other weights. {ANEW}")
    for name, state in found.items():
        for key, value in state.items():
            if key != STEP and value.shape != learning[name].shape:
                raise DataError(f"{file}: {key} of {name} is not as large as the weight: ZeRO cannot split it. {ANEW}")
    steps = sorted({float(state[STEP]) for state in found.values() if STEP in state})
    if len(steps) > 1:
        raise DataError(
            f"{file}: the optimizer took {steps[0]:.0f} steps with some weights and {steps[-1]:.0f} with others, and "
            f"ZeRO counts for all. {ANEW}"
        )
    return found


@torch.no_grad()
def _put_parts(trainer: Any, state: Mapping[str, Mapping[str, torch.Tensor]], folder: Path) -> None:
    """Moments lie as float32 weights do, so they come to their places by way of those, one kind after the other.

    DeepSpeed's function for moments (safe_set_full_optimizer_state) knows those of the first group of weights only.
    """
    learning, held = _learning(trainer.model), trainer.optimizer.state
    split = zero.STAGES[trainer.settings.parallelism.preset] == 3
    steps = next((value[STEP] for value in state.values() if STEP in value), torch.zeros(()))
    for key in {key for kept in held.values() for key in kept}:
        if key == STEP:
            for kept in held.values():
                kept[key].copy_(steps)
            continue
        for flat in held:
            flat.zero_()
        for name, moments in state.items():
            if moments:  # none where every update was skipped
                _put(learning[name], moments[key], split)
        for flat, kept in held.items():
            kept[key].copy_(flat)
    for name, value in _whole_state.saved(trainer.model, folder):
        if (weight := learning.get(_whole_state.bare(name))) is not None:
            _put(weight, value, split)


def _put(weight: torch.nn.Parameter, whole: torch.Tensor, split: bool) -> None:
    """This device's part of a float32 weight.

    Args:
        split: by stage 3, which cuts every weight into equal parts, the last filled up.
    """
    from deepspeed import utils

    if not split:
        utils.safe_set_full_fp32_param(weight, whole)
        return
    size = utils.safe_get_local_fp32_param(weight).numel()
    part = whole.flatten()[size * torch.distributed.get_rank() :][:size]
    utils.safe_set_local_fp32_param(weight, functional.pad(part, (0, size - part.numel())))
