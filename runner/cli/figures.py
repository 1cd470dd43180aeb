"""The figures of a training stage before it runs: rows, tokens, updates, the arithmetic of a batch, memory a device.

Exact where it was counted, else marked with ~; what nobody can know yet is left out.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from runner.core.errors import ConfigError
from runner.core.specs import STAGE, Batch, Parallelism
from runner.data import counted
from runner.data.size import Size, size_of_mix
from runner.data.updates import ROWS
from runner.engines import presets
from runner.models.memory import FROZEN, GIB, WHOLE, Memory, estimate
from runner.models.shape import Shape, shape_of
from runner.training.budget import GPU
from runner.training.settings import check_pace

LARGE = 75.0  # GiB that a device of 80 GB leaves
DEVICES = (2, 4, 8, 16, 32)
ADAPTER = "an adapter (train_type=lora or qlora), or "
LESS = {"lora": "train_type=qlora, or ", "qlora": ""}  # what needs less than a kind of training
NEEDED = ("model", "mix", "batch", "epochs", "max_updates", "max_length", "train_type", "parallelism")


@dataclass(frozen=True)
class Figures:
    """What is known of a training: its size, its number of updates (None: unknown), its memory.

    beside: GiB of each model that stands beside the one that learns, on each device.
    """

    size: Size
    updates: int | None
    memory: Memory | None
    tokens: int | None  # of the whole training, all epochs
    sure: bool  # of the number of updates
    fitting: str | None = None  # what would fit, where this does not
    beside: Mapping[str, float] = field(default_factory=dict)


def figures(
    stage: Any, places: Sequence[Path], bases: Mapping[str, str], identity: Mapping[str, Any]
) -> Figures | None:
    """The figures of a stage that trains; None for others.

    Args:
        bases: stage -> the model its artifact is made of. identity: the stage's, by which its mix may be known exactly.
    """
    if not all(hasattr(stage, name) for name in NEEDED):
        return None
    known = counted.known(identity)
    size = Size(known.rows, known.tokens, True, True) if known else size_of_mix(stage.mix, places)
    updates = _updates(stage, size)
    name = bases.get(stage.model.id.removeprefix(STAGE), stage.model.id)
    shape = shape_of(name)
    memory = estimate(shape, stage.train_type, stage.parallelism, stage.model.dtype) if shape else None
    share = 1.0 if stage.max_updates is None or not updates else stage.max_updates / updates
    samples = hasattr(stage, "prompts_per_update")  # its own answers, of lengths that nobody knows yet
    tokens = None if size.tokens is None or samples else round(size.tokens * stage.epochs * share)
    beside = _beside(stage, bases)
    more = sum(beside.values())
    over = memory is not None and _least(stage, memory, more) > _limit(stage)
    fitting = _fitting(stage, shape, more) if shape and over else None
    sure = stage.max_updates is not None or (size.exact and not (stage.batch.packs or stage.batch.tokens))
    return Figures(size, stage.max_updates or updates, memory, tokens, sure, fitting, beside)


def _beside(stage: Any, bases: Mapping[str, str]) -> dict[str, float]:
    """GiB of the models that stand whole beside the one that learns, as far as their shapes are known."""
    named = stage.companions() if hasattr(stage, "companions") else {}
    shapes = {what: shape_of(bases.get(one.id.removeprefix(STAGE), one.id)) for what, one in named.items()}
    return {what: found.parameters * FROZEN[named[what].dtype] / GIB for what, found in shapes.items() if found}


def _micro(stage: Any) -> int:
    """Tokens of a micro-batch, or of the longest sequence where the size is to be found: a prompt and its answer."""
    given = stage.batch.tokens_per_device
    answer = stage.sampling.max_new_tokens if hasattr(stage, "prompts_per_update") else 0
    return int(given if given != "auto" else (stage.max_length or 2048) + answer)


def _limit(stage: Any) -> float:
    """GiB of a device that may be used."""
    return float(stage.batch.memory_gib or LARGE)


def _least(stage: Any, memory: Memory, more: float) -> float:
    """GiB that are needed at least. more: for models that stand beside."""
    return max(memory.at(_micro(stage), "full"), memory.starting) + more


def _fitting(stage: Any, shape: Shape, more: float) -> str:
    """The fewest devices on which it would fit, by a preset that takes this kind of training."""
    limit = _limit(stage)
    whose = "of batch.memory_gib" if stage.batch.memory_gib else "that a device of 80 GB leaves"
    too_much = f"more than the {limit:g} GiB {whose}"
    for devices in DEVICES:
        for preset in ("zero2", "zero3"):
            spread = replace(stage.parallelism, preset=preset, gpus=min(devices, 8), nodes=max(1, devices // 8))
            if not _takes(stage, spread):
                continue
            each = _least(stage, estimate(shape, stage.train_type, spread, stage.model.dtype), more)
            if each <= limit:
                return f"{too_much}; parallelism={preset} on {devices} devices would take ~{each:.0f} GiB of each"
    return f"{too_much}; take {LESS.get(stage.train_type.kind, ADAPTER)}a shorter max_length"


def _takes(stage: Any, parallelism: Parallelism) -> bool:
    """Whether this training can be spread so: what its stage refuses when planning."""
    try:
        presets.check(parallelism, stage.train_type, "")
        check_pace(stage.batch, stage.model.compile, parallelism.preset, "")
    except ConfigError:
        return False
    return True


def _updates(stage: Any, size: Size) -> int | None:
    batch: Batch = stage.batch
    epochs, most = float(stage.epochs), stage.max_updates
    if size.rows is None:
        return None if most is None else int(most)
    if batch.packs or batch.tokens:
        each = batch.tokens or (batch.packs or 0) * (stage.max_length or 0)
        return math.ceil(size.tokens * epochs / each) if size.tokens and each else None
    made = math.ceil(math.ceil(size.rows / _each(stage)) * epochs)
    return made * getattr(stage, "num_iterations", 1)


def _each(stage: Any) -> int:
    """Rows of an update; prompts, where answers are sampled."""
    return int(getattr(stage, "prompts_per_update", None) or stage.batch.rows or ROWS)


def _what(stage: Any) -> str:
    if not hasattr(stage, "prompts_per_update"):
        return "rows"
    return "prompt" if stage.prompts_per_update == 1 else "prompts"


def lines(stage: Any, known: Figures) -> Iterator[str]:
    """The figures as a person reads them."""
    size, batch, parallelism = known.size, stage.batch, stage.parallelism
    about = "" if size.exact else "~"
    if size.rows is not None:
        tokens = (
            ""
            if size.tokens is None
            else f", {size.tokens:,} tokens"
            if size.counted
            else f", ~{short(size.tokens)} tokens"
        )
        most = f" (at most {short(size.rows * stage.max_length)})" if stage.max_length else ""
        yield f"data     {about}{size.rows} rows{tokens}{most if size.tokens is None else ''}"
    else:
        yield "data     rows unknown before the data is read (`#N` takes N rows)"
    devices = parallelism.gpus * parallelism.nodes
    what = (
        f"{batch.packs} packs"
        if batch.packs
        else f"{batch.tokens} tokens"
        if batch.tokens
        else f"{_each(stage)} {_what(stage)}"
    )
    amount = batch.packs or batch.tokens or _each(stage)
    each = "" if hasattr(stage, "prompts_per_update") else f" ({amount / devices:g} on each)"  # spread by answers
    shared = f" over {devices} devices{each}" if devices > 1 else ""
    cut = str(batch.tokens_per_device)
    if cut == "auto":  # what is split over devices is not tried out
        cut = "measured" if parallelism.preset in WHOLE else f"{GPU} on a GPU"
    yield f"batch    {what} an update{shared}, cut into micro-batches by tokens per device ({cut})"
    if known.updates is not None:
        whole = _updates(stage, size)
        over = whole is not None and known.updates > whole
        most = (
            f", stopped by max_updates={stage.max_updates}" if stage.max_updates == known.updates and not over else ""
        )
        count = known.updates / whole * stage.epochs if over and whole else stage.epochs
        epochs = f"{count:.3g} epoch{'s' if count != 1 else ''}"
        most += ", by max_updates" if over else ""
        yield f"updates  {'' if known.sure else '~'}{known.updates} in {epochs}{most}"
    if known.memory is not None:
        yield from _memory(stage, known.memory)
    for what, size_of in known.beside.items():
        yield f"beside   {what}: {size_of:.1f} GiB more on each device"
    if known.fitting is not None:
        yield f"         {known.fitting}"


def _memory(stage: Any, memory: Memory) -> Iterator[str]:
    """Of a micro-batch."""
    tokens, asked = _micro(stage), stage.batch.checkpointing
    if stage.parallelism.preset in WHOLE:
        asked = "off" if asked == "auto" else asked
        less = "checkpointing: " + ", ".join(f"{memory.at(tokens, mode):.1f} {mode}" for mode in ("selective", "full"))
    else:  # what is split is not tried: all activations are computed again, unless the recipe says no
        asked = "full" if asked == "auto" else asked
        other = "off" if asked == "full" else "full"
        less = f"checkpointing {asked}; {memory.at(tokens, other):.1f} {other}"
    there = memory.at(tokens, asked)
    yield (
        f"memory   ~{there:.1f} GiB a device with {tokens} tokens ({less}): "
        f"{memory.fixed:.1f} for weights and optimizer ({short(memory.learning)} learn), "
        f"{memory.per_token[asked] * 1024:.2f} MiB a token"
    )
    if memory.starting > there:
        yield f"         ~{memory.starting:.1f} GiB while it starts: the whole model on each device, before it is split"


def short(number: int) -> str:
    """1234567 as 1.2M."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**4)):
        if number >= size:
            return f"{number / (size if unit != 'k' else 1000):.3g}{unit}"
    return str(number)
