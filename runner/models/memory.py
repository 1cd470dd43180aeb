"""How much memory training needs on one device, estimated from the model's shape before anything is loaded.

Bytes: a frozen weight takes 2 (bfloat16; 4 as float32; about 0.55 in 4 bits); a weight that learns takes 16 (weight,
gradient and Adam's two moments in float32, or a bfloat16 weight and gradient with a float32 copy). ZeRO and FSDP divide
their part of these by the devices. Activations are those of a block kept for the backward pass, in 2 bytes, and the
logits in float32 with their gradient.
"""

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


@dataclass(frozen=True)
class Memory:
    """GiB on one device. fixed: weights, gradients and optimizer; per_token: activations of one token."""

    learning: int
    fixed: float
    per_token: float

    def at(self, tokens: int) -> float:
        """With so many tokens in a micro-batch."""
        return self.fixed + self.per_token * tokens


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
    block = 2 * (8 * shape.hidden + 4 * shape.intermediate * (8 if shape.experts else 1))
    per_token = shape.layers * block + 8 * shape.vocabulary
    return Memory(learning, sum(parts) / GIB, per_token / GIB)


def learning_weights(shape: Shape, train_type: TrainType) -> int:
    """How many weights learn; under `freeze` unknown before loading, so all of them are counted."""
    if train_type.kind in ("full", "freeze"):
        return shape.parameters
    wanted, lora = train_type.lora.targets, train_type.lora
    names = shape.linear if wanted == "all-linear" else [wanted] if isinstance(wanted, str) else wanted
    sizes = [shape.linear[name] for name in names if name in shape.linear]
    return shape.layers * lora.rank * sum(rows + columns for rows, columns in sizes)
