"""What the trainer is told besides model, data and algorithm, and the rhythm that follows from it."""

import math
from dataclasses import dataclass, field
from typing import Literal

from runner.core.errors import ConfigError
from runner.core.specs import Batch, Data, Eval, Log, Optim, Parallelism, Save
from runner.engines import presets

CHECKPOINTS = 10  # a training without `save.every` and `eval.every` writes about so many


@dataclass(frozen=True)
class Settings:
    """lr: the highest learning rate. autocast: run matrix products in bfloat16 over float32 weights. batch, compile:
    what they say of the pace (`pace.py`)."""

    lr: float
    optim: Optim = field(default_factory=Optim)
    eval: Eval = field(default_factory=Eval)
    save: Save = field(default_factory=Save)
    log: Log = field(default_factory=Log)
    data: Data = field(default_factory=Data)
    parallelism: Parallelism = field(default_factory=Parallelism)
    autocast: bool = False
    batch: Batch = field(default_factory=Batch)
    compile: bool | Literal["auto"] = "auto"

    def afterwards(self, how: str) -> str:
        """What the same command does after a stop. how: it goes on, where there is something to go on from."""
        if self.save.weights_only:
            return (
                "Checkpoints of weights alone (save.weights_only) cannot be gone on from: the same command begins anew"
            )
        return f"The same command goes on from {how}"


def check(optim: Optim, key: str) -> None:
    """Refuse what contradicts itself, at plan time.

    Raises:
        ConfigError: with the key, for example `optim.betas`.
    """
    if len(optim.betas) != 2:
        raise ConfigError(
            f"{key}.betas", f"two numbers are wanted, not {list(optim.betas)}", "For example: [0.9, 0.95]."
        )
    if optim.lr is not None and optim.min_lr > optim.lr:
        raise ConfigError(f"{key}.min_lr", f"{optim.min_lr:g} is above optim.lr, {optim.lr:g}")


def check_pace(batch: Batch, compiled: bool | Literal["auto"], preset: str, key: str) -> None:
    """Refuse what nothing would follow, at plan time: only compiled layers keep some of their activations, those of a
    model that is split over devices are not compiled, and its micro-batches are not tried out.

    Raises:
        ConfigError: with the key under `key`.
    """
    split = preset not in presets.WHOLE
    if compiled is True and split:
        raise ConfigError(f"{key}.model.compile", f"true, and {preset} compiles no layers", "Take auto or false.")
    if batch.checkpointing == "selective" and (split or compiled is False):
        why = f"{preset} compiles none" if split else "model.compile is false"
        raise ConfigError(f"{key}.batch.checkpointing", f"selective needs compiled layers, and {why}", "Take full.")
    given = batch.tokens_per_device != "auto" and batch.checkpointing != "auto"
    if batch.memory_gib is not None and (split or given):
        why = f"{preset} tries none out" if split else "tokens_per_device and checkpointing are both given"
        fix = "Leave it out, and give batch.tokens_per_device." if split else "Leave it out, or one of them."
        told = f"{batch.memory_gib:g} bounds micro-batches that are tried out, and {why}"
        raise ConfigError(f"{key}.batch.memory_gib", told, fix)


@dataclass(frozen=True)
class Rhythm:
    """After which updates (from 1) a training logs, evaluates and saves. at_start: it evaluates before them too."""

    total: int
    log: int
    evaluate: int | None
    save: int
    at_start: bool = False

    def logs(self, update: int) -> bool:
        """The first update, every so many, and the last."""
        return update in (1, self.total) or update % self.log == 0

    def evaluates(self, update: int) -> bool:
        """Every so many, and the last."""
        if update == 0:
            return self.at_start
        return update == self.total or (self.evaluate is not None and update % self.evaluate == 0)

    def saves(self, update: int) -> bool:
        """Every so many, and the last."""
        return update == self.total or update % self.save == 0


def rhythm(settings: Settings, total: int) -> Rhythm:
    """Checkpoints follow `save.every`, else `eval.every`, else a tenth of the training."""
    save = settings.save.every or settings.eval.every or math.ceil(total / CHECKPOINTS)
    return Rhythm(total, settings.log.every, settings.eval.every, max(1, save), settings.eval.at_start)
