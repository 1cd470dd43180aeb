"""In which number types a training runs: learning weights are float32, whatever the device.

A bfloat16 weight has 8 bits of fraction, and an update of 1e-5 of it would vanish in rounding. So on a GPU full
weights are held in float32 and matrix products run in bfloat16 (autocast); the model is written in bfloat16. A frozen
base under an adapter may well be bfloat16; the adapter itself is held in float32, with products in bfloat16 likewise.
float16 would overflow and is refused.
"""

from dataclasses import dataclass, replace

from runner.core.errors import ConfigError
from runner.core.specs import Model, TrainType

ADAPTERS = ("lora", "qlora")


@dataclass(frozen=True)
class Precision:
    """model: as it is to be loaded. autocast: whether products run in bfloat16. written: type of the result's weights,
    None for that which they have."""

    model: Model
    autocast: bool = False
    written: str | None = None


def precision(model: Model, train_type: TrainType, gpu: bool) -> Precision:
    """How to load, train and write a model."""
    if not gpu:
        return Precision(model)
    if model.dtype == "float32":
        return Precision(replace(model, attention="sdpa") if model.attention == "auto" else model)  # see attention.py
    if train_type.kind in ADAPTERS:
        return Precision(model, autocast=True)
    return Precision(replace(model, dtype="float32"), autocast=True, written="bfloat16")


def check(model: Model, key: str) -> None:
    """Refuse float16 at plan time.

    Raises:
        ConfigError: with the key, for example `model.dtype`.
    """
    if model.dtype == "float16":
        raise ConfigError(f"{key}.dtype", "float16 overflows in training", "Take bfloat16, or auto.")
