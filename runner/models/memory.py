"""How much memory training needs on one device, estimated from the model's shape before anything is loaded.

Bytes: a frozen weight takes 2 (bfloat16; 4 as float32; about 0.55 in 4 bits); a weight that learns takes 16 (weight,
gradient and Adam's two moments in float32, or a bfloat16 weight and gradient with a float32 copy). ZeRO and FSDP divide
their part of these by the devices. Activations are those that compiled layers keep for the backward pass, in 2 bytes,
by factors measured on an H100 (README); logits in float32 with their gradient come on top where the head is not fused
with the loss.
"""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass

from runner.core.specs import Parallelism, TrainType
from runner.models.shape import Shape

GIB = 1024**3
WEIGHT, GRADIENT, MOMENTS = 4, 4, 8  # bytes of a learning weight: what each preset divides
FROZEN = {"auto": 2.0, "bfloat16": 2.0, "float16": 2.0, "float32": 4.0}
FOUR_BITS = 0.55
SPLITS = {  # preset -> which parts are divided over the devices: frozen weights, weights, gradients, moments
    "single": (False, False, False, False), "ddp": (False, False, False, False), "zero1": (False, False, False, True),
    "zero2": (False, False, True, True), "zero3": (True, True, True, True), "fsdp2": (True, True, True, True),
    "zero3_offload": (True, True, True, True),
}  # fmt: skip


ACTIVE = 8  # experts that a token goes through
HIDDEN, INNER, HEADS = 6.9, 5.0, 2.7  # times the widths of a layer: what a token keeps of it
SELECTIVE = 0.39  # of that, when what is cheap is computed again
ENTRY = 2  # times the hidden width: what goes into a layer, all that is kept of it under full checkpointing


@dataclass(frozen=True)
class Memory:
    """GiB on one device. fixed: weights, gradients and optimizer; per_token: activations of one token, by
    `batch.checkpointing`."""

    learning: int
    fixed: float
    per_token: Mapping[str, float]

    def at(self, tokens: int, checkpointing: str = "off") -> float:
        """With so many tokens in a micro-batch."""
        return self.fixed + self.per_token[checkpointing] * tokens


def estimate(shape: Shape, train_type: TrainType, parallelism: Parallelism, dtype: str = "auto") -> Memory:
    """The memory of training a model of that shape."""
    learning = learning_weights(shape, train_type)
    full = train_type.kind == "full"
    frozen = 0 if full else shape.parameters
    devices = parallelism.gpus * parallelism.nodes
    over = [devices if split else 1 for split in SPLITS[parallelism.preset]]
    size = FOUR_BITS if train_type.kind == "qlora" else FROZEN[dtype]
    parts = [
        frozen * size / over[0],
        learning * WEIGHT / over[1],
        learning * GRADIENT / over[2],
        learning * MOMENTS / over[3],
    ]
    if parallelism.preset == "zero3_offload":
        parts[1:] = [0.0, learning * GRADIENT / over[2], 0.0]
    return Memory(learning, sum(parts) / GIB, {mode: size / GIB for mode, size in _activations(shape).items()})


def _activations(shape: Shape) -> dict[str, float]:
    """Bytes that a token keeps, by what of the activations is kept."""
    attention = (shape.heads + 2 * shape.kv_heads) * shape.head_dim
    inner = shape.intermediate * (ACTIVE if shape.experts else 1)
    layer = 2 * (HIDDEN * shape.hidden + INNER * inner + HEADS * attention)
    logits = 0 if importlib.util.find_spec("liger_kernel") else 8 * shape.vocabulary
    return {
        "off": shape.layers * layer + logits,
        "selective": SELECTIVE * shape.layers * layer + logits,
        "full": shape.layers * 2 * ENTRY * shape.hidden + layer + logits,
    }


def learning_weights(shape: Shape, train_type: TrainType) -> int:
    """How many weights learn; under `freeze` unknown before loading, so all of them are counted."""
    if train_type.kind in ("full", "freeze"):
        return shape.parameters
    wanted, lora = train_type.lora.targets, train_type.lora
    names = shape.linear if wanted == "all-linear" else [wanted] if isinstance(wanted, str) else wanted
    sizes = [shape.linear[name] for name in names if name in shape.linear]
    return shape.layers * lora.rank * sum(rows + columns for rows, columns in sizes)
