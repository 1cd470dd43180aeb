"""A checkpoint of ZeRO as one of whole files, which any preset goes on from with any number of devices.

DeepSpeed's own conversion ("universal checkpoint") puts the devices' parts together: float32 weights and moments, each
under its weight's name. Here they become the files of `_whole_state.py`. Refuses what it cannot find a place for. The
parts are pickles, as DeepSpeed writes and reads them: the run's own, whose sums were compared just before.
"""

import argparse
import contextlib
import io
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers.trainer import OPTIMIZER_NAME

from runner.core.errors import DataError
from runner.training import checkpoints

WEIGHT, STEP = "fp32", "step"
OF_STAGE_3 = "zero_pp_rank_*model_states.pt"  # there every device writes its weights
OTHERS = "others.safetensors"
ADAPTER = (".default.", ".modules_to_save.")  # in the names of an adapter's weights, but not in its files


def converted(folder: Path, apart: Path, model: Any) -> Path:
    """Write the checkpoint in `folder` anew, under `apart`. Returns its folder.

    Args:
        model: of these weights, whole: what is written otherwise than it is held (experts) is told by its names.

    Raises:
        DataError: a weight that learned is neither in a file nor in the model, or stage 3 has not learned yet.
    """
    shutil.rmtree(apart, ignore_errors=True)
    target, parts = apart / folder.name, apart / "universal"
    (step_folder,) = folder.glob("global_step*")
    shutil.copytree(folder, target, ignore=lambda *_: [step_folder.name, checkpoints.MARKER])
    steps = _steps(step_folder)
    if steps is None and any(step_folder.glob(OF_STAGE_3)):  # its moments come with its first step; others begin with 0
        raise DataError(
            f"{folder}: every update before it was skipped, so that nothing was learned yet. Remove the folder, and "
            "the same command begins anew."
        )
    _put_together(step_folder, parts)
    held = {found.name: found for found in sorted((parts / "zero").iterdir()) if found.is_dir()}
    shapes = _write_weights(target, held, {name: weight.shape for name, weight in model.named_parameters()})
    state = {number: _moments(held[name], shape, steps) for number, (name, shape) in enumerate(shapes.items())}
    torch.save({"state": state, "names": list(shapes)}, target / OPTIMIZER_NAME)
    shutil.rmtree(parts)
    return target


def _put_together(source: Path, target: Path) -> None:
    from deepspeed.checkpoint import ds_to_universal

    wanted = argparse.Namespace(
        input_folder=str(source), output_folder=str(target), num_extract_workers=1, num_merge_workers=1,
        keep_temp_folder=False, strict=True, inject_missing_state=True,
    )  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        ds_to_universal.main(wanted)


def _steps(folder: Path) -> torch.Tensor | None:
    """Of the optimizer, which takes all weights at once; None: it counts none."""
    file = min(folder.glob("*zero_pp_rank_0_*optim_states.pt"))
    found = next(_named(torch.load(file, map_location="cpu", weights_only=False)["optimizer_state_dict"]), None)
    return None if found is None else torch.as_tensor(found, dtype=torch.float32)


def _named(tree: Any) -> Iterator[Any]:
    for key, part in tree.items() if isinstance(tree, Mapping) else ():
        if key == STEP:
            yield part
        yield from _named(part)


def _read(file: Path, shape: torch.Size) -> torch.Tensor:
    """A tensor as the weight lies; stage 3's are flat, and may be filled up."""
    found = torch.load(file, map_location="cpu", weights_only=True)
    flat = torch.as_tensor(found["param"] if isinstance(found, dict) else found).detach().flatten()
    return flat[: shape.numel()].reshape(shape)


def _moments(folder: Path, shape: torch.Size, steps: torch.Tensor | None) -> dict[str, torch.Tensor]:
    files = sorted(file for file in folder.glob("*.pt") if file.stem not in (WEIGHT, STEP))
    made = {file.stem: _read(file, shape) for file in files}
    return {STEP: steps.clone(), **made} if made and steps is not None else made


def _write_weights(
    target: Path, held: Mapping[str, Path], shapes: Mapping[str, torch.Size]
) -> dict[str, torch.Size]:  # fmt: skip
    """Put float32 weights into the files. Returns names and shapes of those that are in them."""
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    called = {_in_file(name): name for name in held}
    found: dict[str, torch.Tensor] = {}
    for file in target.glob("*.safetensors"):
        with safe_open(file, "pt") as told:
            metadata = told.metadata()
        tensors = load_file(file)
        now = {
            key: _read(held[called[key]] / f"{WEIGHT}.pt", value.shape)
            for key, value in tensors.items()
            if key in called
        }
        save_file({**tensors, **now}, file, metadata=metadata)
        found |= {called[key]: value for key, value in now.items()}
    moments = {name for name, folder in held.items() if len(list(folder.iterdir())) > 1}
    lost = sorted((moments or set(held)) - set(found))  # a second name of tied weights has none, and may be frozen
    if strange := [name for name in lost if name not in shapes]:
        raise DataError(
            f"{target}: no file has a place for {strange[0]}. Go on with the preset that wrote it, on as many devices."
        )
    more = {name: _read(held[name] / f"{WEIGHT}.pt", shapes[name]) for name in lost}
    if more:
        save_file(more, target / OTHERS, metadata={"format": "pt"})
    return {name: value.shape for name, value in (found | more).items()}


def _in_file(name: str) -> str:
    for part in ADAPTER:
        name = name.replace(part, ".")
    return name
