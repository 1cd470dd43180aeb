"""The finished model or adapter as a folder that transformers and vLLM load: whole or absent."""

import shutil
from pathlib import Path
from typing import Any

FOLDER = "model"  # in the stage's folder


def write_model(model: Any, tokenizer: Any, folder: Path, dtype: str | None = None) -> Path:
    """Write weights (safetensors), config, generation config, tokenizer and chat template into `folder`/model.

    Args:
        model: unwrapped, or an adapter around one: then the adapter alone is written.
        dtype: the type in which full weights are written; None: as they are.
    """
    import torch

    target, side = folder / FOLDER, folder / f".{FOLDER}"
    shutil.rmtree(side, ignore_errors=True)
    if dtype is not None and not hasattr(model, "peft_config"):
        model = model.to(getattr(torch, dtype))
    model.save_pretrained(side)
    tokenizer.save_pretrained(side)
    shutil.rmtree(target, ignore_errors=True)
    side.rename(target)
    return target
