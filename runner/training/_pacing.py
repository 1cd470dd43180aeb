"""Before the first update on a GPU: whether layers are compiled and the head fused, and how large micro-batches are.

What `batch` and `model.compile` leave to us is tried on the real model and kept: with the run, so that a resumed one
cuts its updates as before, and in the cache for the next run of the same shape.
"""

from dataclasses import replace
from functools import cached_property
from importlib import metadata
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback

from runner.core.content import digest
from runner.core.errors import StageError
from runner.core.places import cache_folder
from runner.engines import presets
from runner.training import fused_head, pace, speed
from runner.training._trial import Trial, fused_agrees, of_all, of_first, untouched
from runner.training.layers import Checkpointing, arrange, repeated
from runner.training.pace import Extent, Pace

if TYPE_CHECKING:
    from runner.training._update_trainer import UpdateTrainer

WORTH = 90.0  # seconds of work from which compiling pays
USUAL = 0.3  # share of a GPU's peak that eager layers reach
PLAIN_PEAK = 300e12  # operations a second of a GPU that is not known
# bytes of a learning weight that its optimizer takes, from the first update on
MOMENTS = {"adamw": 8, "adamw_8bit": 2, "sgd": 0, "adafactor": 1}
SPARED = 1.0  # GiB for what is no tensor of ours: the kernels' own


class Pacing(TrainerCallback):
    """Sets the pace of a trainer when its training begins."""

    def __init__(self, trainer: "UpdateTrainer", extent: Extent) -> None:
        self.trainer, self.extent = trainer, extent
        self.model: Any = trainer.model
        self.head: Any = trainer._head
        self.arranged: Checkpointing | None = None  # how the layers run already

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """All devices do it together, and the first decides what they might see differently."""
        trainer = self.trainer
        whole = trainer.settings.parallelism.preset in presets.WHOLE
        needs_logits = getattr(trainer.algorithm, "needs_logits", False)
        fuse = whole and not needs_logits and fused_head.possible(self.head)
        fuse = fuse and fused_agrees(self.model, self.head, trainer.updates.cutting.packed)
        (apart,) = of_all(trainer, float(not fuse))
        trainer.fuse = not apart
        kept = of_first(trainer, pace.read(trainer.job.folder / pace.FILE))
        if kept is not None and self._asked(kept):
            chosen = kept
        else:
            chosen = replace(self._find(whole), memory_gib=trainer.settings.batch.memory_gib)
        if trainer.is_world_process_zero():
            pace.write(trainer.job.folder / pace.FILE, chosen)
            print(_told(chosen, trainer.fuse), flush=True)
            print(speed.told(torch.cuda.get_device_name()), flush=True)
        if chosen.checkpointing != self.arranged:  # what was compiled for the trial serves on
            arrange(self.model, chosen.checkpointing, chosen.compiled)
        trainer.keep_pace(chosen)

    def _asked(self, kept: Pace) -> bool:
        """Whether what was kept is still what is asked for."""
        batch, compile_ = self.trainer.settings.batch, self.trainer.settings.compile
        return (
            batch.tokens_per_device in ("auto", kept.budget)
            and batch.checkpointing in ("auto", kept.checkpointing)
            and compile_ in ("auto", kept.compiled)
            and batch.memory_gib == kept.memory_gib
        )

    def _find(self, whole: bool) -> Pace:
        batch, compiled = self.trainer.settings.batch, of_first(self.trainer, self._compiled(whole))
        given = batch.tokens_per_device
        modes = self._modes(compiled)
        if not whole:  # split over devices: nothing is tried where all must move together
            return Pace(self.trainer.updates.cutting.budget, modes[-1])
        if given != "auto" and len(modes) == 1:
            return Pace(given, modes[0], compiled)
        gib = self._memory()
        file = cache_folder() / "pace" / f"{self._key(compiled, gib)}.json"
        known = of_first(self.trainer, pace.read(file))
        if known is not None:
            return known
        found = self._try(modes, compiled, gib)
        if self.trainer.is_world_process_zero():
            pace.write(file, found)
        return found

    def _try(self, modes: list[Checkpointing], compiled: bool, gib: float) -> Pace:
        trainer, extent, given = self.trainer, self.extent, self.trainer.settings.batch.tokens_per_device
        trial = Trial(trainer, extent.typical, compiled)
        longest, update = extent.longest, max(1, extent.update // trainer.args.world_size)
        if given != "auto":
            longest = update = given
        with untouched(self.model):
            found = pace.find(trial.measure, modes, gib, longest, update, compiled)
        self.arranged = trial.mode
        if found is None:
            raise StageError(
                f"{trainer.job.name}: a micro-batch of {longest:,} tokens does not fit into the {gib:.1f} GiB that "
                "there are. Lower max_length or batch.tokens_per_device, or take train_type=lora, or more devices "
                "with parallelism=zero3 or fsdp2."
            )
        return found if given == "auto" else replace(found, budget=given)

    def _modes(self, compiled: bool) -> list[Checkpointing]:
        asked = self.trainer.settings.batch.checkpointing
        if asked == "auto":
            return ["off", "selective", "full"] if compiled else ["off", "full"]
        return [asked]

    def _compiled(self, whole: bool) -> bool:
        trainer, asked = self.trainer, self.trainer.settings.compile
        if asked != "auto":
            return asked
        if trainer.settings.batch.checkpointing == "selective":  # nothing but compiled layers can do it
            return True
        able = whole and repeated(self.model) and not getattr(self.model, "is_loaded_in_4bit", False)
        work = trainer._operations * self.extent.tokens / trainer.args.world_size
        return bool(able) and work / (USUAL * (trainer._peak or PLAIN_PEAK)) > WORTH

    def _memory(self) -> float:
        """GiB that weights, gradients and activations may take: what is free now, without what is still to come, on the
        fullest device.
        """
        trainer = self.trainer
        free, _ = torch.cuda.mem_get_info()
        there = (free + torch.cuda.memory_reserved()) / 2**30
        if trainer.settings.batch.memory_gib is not None:
            there = min(there, trainer.settings.batch.memory_gib)
        moments = self._learning * MOMENTS[trainer.settings.optim.name] / 2**30
        (lacking,) = of_all(trainer, SPARED + moments - there)
        return -lacking

    @cached_property
    def _learning(self) -> int:
        """Weights that learn."""
        return sum(weight.numel() for weight in self.model.parameters() if weight.requires_grad)

    def _key(self, compiled: bool, gib: float) -> str:
        trainer, extent = self.trainer, self.extent
        decide = [
            self.model.config.to_json_string(), trainer.settings.batch, trainer.settings.optim.name, compiled,
            self._learning, trainer.fuse,
            torch.cuda.get_device_name(), torch.__version__, metadata.version("transformers"), extent.longest,
            extent.update, trainer.args.world_size, round(gib), self.model.config._attn_implementation,
        ]  # fmt: skip
        return digest(repr(decide).encode())


def _told(chosen: Pace, fuse: bool) -> str:
    parts = [f"micro-batches of up to {chosen.budget:,} tokens"]
    if chosen.checkpointing != "off":
        parts.append(f"{chosen.checkpointing} activation checkpointing")
    if chosen.compiled:
        parts.append("layers compiled")
    if fuse:
        parts.append("head and loss in one kernel")
    if chosen.tokens_per_s:
        parts.append(f"{chosen.tokens_per_s:,.0f} tokens/s when tried")
    return "pace: " + ", ".join(parts)
