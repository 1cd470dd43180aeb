"""How much memory training needs on one device, estimated from the model's shape before anything is loaded.

Bytes: a frozen weight takes 2 (bfloat16; 4 as float32, as under freeze; about 0.55 in 4 bits, where embeddings and head
are not). One that learns takes 16 (weight, gradient and Adam's two moments in float32; under ZeRO a bfloat16 weight and
gradient, and in float32 a copy and the moments), and 4 more where DDP sends its gradient. ZeRO and FSDP divide their
part of these by the devices, and ZeRO has buffers beside them. Activations are those that compiled layers keep for the
backward pass, in 2 bytes, by factors measured on an H100 and an H200 (README); logits with their gradient, in bfloat16
and in float32, come on top where the head is not fused with the loss, and a few of them where it is.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runner.core.specs import Parallelism, TrainType
from runner.models import fused_kernel
from runner.models.shape import Shape

GIB = 1024**3
FROZEN = {"auto": 2.0, "bfloat16": 2.0, "float16": 2.0, "float32": 4.0}
FOUR_BITS = 0.55
WHOLE = ("single", "ddp")  # where head and loss are one kernel, if it is there, and layers are compiled
LEARNING = {  # preset -> bytes of a learning weight that each device has, and those that are divided over them
    "single": (16, 0), "ddp": (16 + 4, 0), "fsdp2": (0, 16),
    "zero1": (2 + 2, 12), "zero2": (2, 2 + 12), "zero3": (0, 16), "zero3_offload": (0, 0),
}  # fmt: skip
GATHERED = 10**9  # weights that stage 3 has put together at a time, its own limit
SENT = 5 * 10**8  # gradients that ZeRO sends at a time, its own limit: a buffer, two where it sends beside the work
BUFFERS = {"zero1": 2, "zero2": 2, "zero3": 1, "zero3_offload": 1}

ACTIVE = 8  # experts that a token goes through
ADAPTED = (6.9, 5.0, 2.7)  # times the widths of a layer (hidden, inner, heads): what a token keeps of it with adapters,
PLAIN = (4.0, 3.55, 2.7)  # and where the weights themselves learn
DORA = 1.3  # times what the linear layers give: what DoRA keeps besides
SELECTIVE, SELECTIVE_PLAIN = 0.39, 0.46  # of that, when what is cheap is computed again
LOGITS = 9.5  # bytes of a place and a word where they are not fused with the loss, as measured
ENTRY = 2  # times the hidden width: what goes into a layer, all that is kept of it under full checkpointing


@dataclass(frozen=True)
class Memory:
    """GiB on one device. fixed: weights, gradients and optimizer; per_token: activations of one token, by
    `batch.checkpointing`. starting: before the work is split, while the whole model lies on the device; 0 where that is
    no more than what follows.
    """

    learning: int
    fixed: float
    per_token: Mapping[str, float]
    starting: float = 0.0

    def at(self, tokens: int, checkpointing: str = "off") -> float:
        """With so many tokens in a micro-batch."""
        return self.fixed + self.per_token[checkpointing] * tokens


def estimate(shape: Shape, train_type: TrainType, parallelism: Parallelism, dtype: str = "auto") -> Memory:
    """The memory of training a model of that shape."""
    learning = learning_weights(shape, train_type)
    frozen = shape.parameters if train_type.kind in ("lora", "qlora") else shape.parameters - learning
    devices, preset = parallelism.gpus * parallelism.nodes, parallelism.preset
    own, divided = LEARNING[preset if devices > 1 or preset != "ddp" else "single"]
    fixed = learning * (own + divided / devices)
    if preset != "zero3_offload":  # which holds all in the host's memory
        split = devices if preset in ("zero3", "fsdp2") else 1
        fixed += _frozen(shape, train_type, preset, dtype, frozen) / split
    if preset in ("zero3", "zero3_offload"):
        fixed += 2 * min(shape.parameters, GATHERED)
    fixed += 2 * SENT * BUFFERS.get(preset, 0)
    fused = preset in WHOLE and fused_kernel.installed()
    if fused:  # logits and what they become, and the head that learns as a copy in bfloat16
        fixed += 2 * fused_kernel.CHUNK + (2 * shape.vocabulary * shape.hidden if train_type.kind == "full" else 0)
    kept = _activations(shape, train_type, 0 if fused else LOGITS * shape.vocabulary)
    starting = shape.parameters * _loaded(train_type, devices) if preset in BUFFERS else 0.0  # those of ZeRO
    return Memory(learning, fixed / GIB, {mode: size / GIB for mode, size in kept.items()}, starting / GIB)


def _loaded(train_type: TrainType, devices: int) -> float:
    """Bytes of a weight as DeepSpeed puts the whole model on each device, before it splits it: in bfloat16, but what
    one device alone has loaded there already is as it is trained.
    """
    return 4.0 if devices == 1 and train_type.kind in ("full", "freeze") else 2.0


def _frozen(shape: Shape, train_type: TrainType, preset: str, dtype: str, frozen: int) -> float:
    """Bytes of the weights that do not learn."""
    if train_type.kind == "freeze":  # loaded as those that learn; ZeRO holds all of them in bfloat16
        return frozen * (2.0 if preset in BUFFERS and dtype != "float32" else 4.0)
    if train_type.kind == "qlora":
        return FOUR_BITS * shape.in_layers + 2.0 * (shape.parameters - shape.in_layers)
    return frozen * FROZEN[dtype]


def _activations(shape: Shape, train_type: TrainType, logits: float) -> dict[str, float]:
    """Bytes that a token keeps, by what of the activations is kept. logits: those of its logits."""
    adapted = train_type.kind in ("lora", "qlora")
    hidden, inner, heads = ADAPTED if adapted else PLAIN
    experts = ACTIVE if shape.experts else 1
    attention = (shape.heads + 2 * shape.kv_heads) * shape.head_dim
    layer = 2 * (hidden * shape.hidden + inner * shape.intermediate * experts + heads * attention)
    given = sum(out * (experts if name[0] in "gud" else 1) for name, (_, out) in shape.linear.items())
    more = 2 * DORA * given if adapted and train_type.lora.dora else 0.0
    layers = shape.layers - _untouched(shape, train_type)
    return {
        "off": layers * (layer + more) + logits,
        "selective": layers * ((SELECTIVE if adapted else SELECTIVE_PLAIN) * layer + more) + logits,
        "full": layers * 2 * ENTRY * shape.hidden + layer + more + logits,
    }


def _untouched(shape: Shape, train_type: TrainType) -> int:
    """The first layers, below all that learns under `freeze`, of which nothing is kept."""
    if train_type.kind != "freeze":
        return 0
    learning = _matching(shape, train_type.patterns)
    below = 0
    for name, _ in shape.named():
        if name in learning:
            return below
        if name.endswith("post_attention_layernorm.weight"):
            below += 1
    return below if learning else 0


def learning_weights(shape: Shape, train_type: TrainType) -> int:
    """How many weights learn; under `freeze` those that the patterns name in a model of the Llama kind, else all."""
    if train_type.kind == "full":
        return shape.parameters
    if train_type.kind == "freeze":
        return _named(shape, train_type.patterns) or shape.parameters
    wanted, lora = train_type.lora.targets, train_type.lora
    names = shape.linear if wanted == "all-linear" else [wanted] if isinstance(wanted, str) else wanted
    sizes = [shape.linear[name] for name in names if name in shape.linear]
    return shape.layers * lora.rank * sum(rows + columns for rows, columns in sizes)


def _named(shape: Shape, patterns: Sequence[str]) -> int:
    return sum(_matching(shape, patterns).values())


def _matching(shape: Shape, patterns: Sequence[str]) -> dict[str, int]:
    try:
        wanted = [re.compile(pattern) for pattern in patterns]
    except re.error:  # which is told when the model is loaded
        return {}
    return {name: size for name, size in shape.named() if any(pattern.search(name) for pattern in wanted)}
