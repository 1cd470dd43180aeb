"""The finished model or adapter as a folder that transformers and vLLM load: whole or absent."""

import json
import shutil
from pathlib import Path
from typing import Any

from runner.core.artifact import to_disk
from runner.models.adapter import name_base

FOLDER = "model"  # in the stage's folder
CONFIG = "config.json"


def write_model(
    model: Any, tokenizer: Any, folder: Path, dtype: str | None = None, weights: dict[str, Any] | None = None,
    shard: str = "50GB",
) -> Path:  # fmt: skip
    """Write weights (safetensors), config, generation config, tokenizer and chat template into `folder`/model.

    Args:
        model: unwrapped, or an adapter around one: then the adapter alone is written.
        dtype: the type in which full weights are written; None: as they are.
        weights: of a model that is split over devices, put together; None: the model has them.
        shard: the largest size of a file of weights.
    """
    import torch

    target, side = folder / FOLDER, folder / f".{FOLDER}"
    shutil.rmtree(side, ignore_errors=True)
    if dtype is not None and not hasattr(model, "peft_config"):
        kind = getattr(torch, dtype)
        if weights is None:
            model = model.to(kind)
        else:
            weights = {name: part.to(kind) if part.is_floating_point() else part for name, part in weights.items()}
    model.save_pretrained(side, state_dict=weights, max_shard_size=shard)
    if weights is not None and dtype is not None and (side / CONFIG).is_file():  # it told the type of the split model
        config = json.loads((side / CONFIG).read_text(encoding="utf-8"))
        (side / CONFIG).write_text(json.dumps({**config, "dtype": dtype}, indent=2) + "\n", encoding="utf-8")
    tokenizer.save_pretrained(side)
    if hasattr(model, "peft_config"):
        name_base(side, model.config._name_or_path)
    for file in (*side.rglob("*"), side):  # before artifact.json, which says that they are whole
        to_disk(file)
    shutil.rmtree(target, ignore_errors=True)
    side.rename(target)
    to_disk(folder)
    return target
