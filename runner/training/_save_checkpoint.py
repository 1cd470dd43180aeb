"""Writing a checkpoint of a running training: aside, beside the training where that can be, then finished.

At an update's end weights and optimizer are copied to the CPU's memory, and each device writes what is small: schedule,
random states, position. Threads write the rest while the training goes on: the first device's all of it (FSDP2's parts
are put together first, on that device), or under ZeRO every device's its own part. The first device then puts it on the
disk, takes checksums, marks it and rotates. One checkpoint at a time: the next one waits. What would not fit into
memory twice is written while the training waits. What goes wrong is raised at the next update, or at the end.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME

from runner.core.errors import StageError, disk_number
from runner.engines import launch, presets
from runner.training import _snapshot, _whole_state, checkpoints
from runner.training._background import Background

if TYPE_CHECKING:
    from runner.training._update_trainer import UpdateTrainer

TOKENIZER = ".tokenizer"  # in the side folder, for a moment
PART = "part"  # there too, with a device's number: it has written what it holds
FAILED = ".failed"  # beside that: it could not
LOOK = 0.05  # seconds between two looks for another device's
TORCH_WRITES = ("write failed", "inline_container", "iostream error")  # its writer's words where the disk is full


class Saver:
    """Of one training. place: where Trainer writes, the stage's folder when nothing is being saved."""

    def __init__(self, trainer: "UpdateTrainer") -> None:
        self.trainer, self.folder = trainer, trainer.job.folder
        self.place = self.folder
        self._side = self.folder / checkpoints.SIDE
        self._background = Background()
        self._later: list[Callable[[], None]] = []
        self._copier: _snapshot.Copier | None = None
        self._tokenizer: dict[str, bytes] = {}
        self._told = False

    def save(self, write: Callable[[], None]) -> None:
        """Take the state after the last update, and see that it is written and that old checkpoints go.

        Args:
            write: Trainer's own saving, into `place`; it comes to `weights` and `optimizer` for what is large.

        Raises:
            StageError: the disk refused, this time or the last; checkpoints made before are untouched.
        """
        update, first = self.trainer.state.global_step, self.trainer.is_world_process_zero()
        made = self._side / f"{checkpoints.PREFIX}{update}"
        self._background.wait()
        with self._disk(update):
            if first:
                shutil.rmtree(self._side, ignore_errors=True)
                shutil.rmtree(self.folder / checkpoints.PARTS, ignore_errors=True)
                made.mkdir(parents=True)
            self._together()
            self.place, self._later, self._copier = self._side, [], self._copies()
            try:
                write()
                if self._copier is not None:
                    self._copier.settle()
                else:
                    _do(self._later)
            finally:
                self.place, self._copier = self.folder, None
            self._together()
        later, self._later = self._later, []
        if first:
            facts, keep = self._facts(), self.trainer.settings.save.keep
            self._background.begin(lambda: self._finish(made, later, facts, keep))
        elif self._in_parts():
            self._background.begin(lambda: self._end_part(update, later))

    def _end_part(self, update: int, later: list[Callable[[], None]]) -> None:
        mark = self._side / f"{PART}{self.trainer.args.process_index}"
        try:
            with self._disk(update):
                _do(later)
        except BaseException:
            mark.with_suffix(FAILED).touch()
            raise
        finally:
            mark.touch()

    def _finish(self, made: Path, later: list[Callable[[], None]], facts: dict[str, Any], keep: int) -> None:
        with self._disk(facts["update"]):
            try:
                _do(later)
            finally:
                self._await_parts()
            checkpoints.finish(made, self.folder, facts)
            checkpoints.rotate(self.folder, keep, facts["update"])
            shutil.rmtree(self._side)

    def evaluated(self) -> None:
        """Tell the checkpoint that is gone on from what an evaluation made up for has found: it may be the best."""
        books, update = self.trainer.books, self.trainer.state.global_step
        here = self.folder / f"{checkpoints.PREFIX}{update}"
        if self.trainer.is_world_process_zero() and checkpoints.read(here) is not None:
            checkpoints.tell(here, {**books.judged(update), "books": books.state()})

    def check(self) -> None:
        """Raise what went wrong beside the training, if anything did."""
        self._background.check()

    def wait(self) -> None:
        """Until the last checkpoint is whole, for all devices; raises what went wrong with it."""
        self._background.wait()
        self._together()

    def join(self) -> None:
        """Until nothing is written any more, whatever came of it: on the way out with another error."""
        self._background.join()

    # What Trainer's saving comes to

    def weights(self, folder: Path, state: Any, write: Callable[[Any], None]) -> None:
        """Weights, config and tokenizer, by the first device. state: of a model put together from its parts, or None.

        Args:
            write: Trainer's own way, with a state.
        """
        if self._copier is not None and state is None:
            model: Any = self.trainer.model
            state = model.state_dict()
            state |= self._copier.copy(_snapshot.changing(model, state))
        elif self._copier is not None and self.trainer.args.device.type == "cpu":
            state = self._copier.copy(state)  # what was put together on the CPU may be a device's own part
        self._later.append(lambda: write(state))
        self._write_tokenizer(folder)

    def optimizer(self, folder: Path, write: Callable[[], None]) -> None:
        """Optimizer and schedule. write: Trainer's own way, by all devices."""
        trainer: Any = self.trainer
        if self._in_parts():
            with handed_over(trainer.deepspeed, self._part):
                write()
            return
        state, first = trainer.optimizer.state_dict(), trainer.args.should_save
        if trainer.is_fsdp_enabled:
            state = _whole_state.gathered(state, keep=first)
        elif first and self._copier is not None:
            state = self._copier.copy(state)
        if first:
            state["names"] = _whole_state.names(trainer.model, trainer.optimizer)
            self._later.append(lambda: torch.save(state, folder / OPTIMIZER_NAME))
            torch.save(trainer.lr_scheduler.state_dict(), folder / SCHEDULER_NAME)

    def _part(self, state: Any, write: Callable[[Any], None]) -> None:
        """One of ZeRO's files, by the device that holds what comes into it."""
        if _snapshot.fits(state, copies=int(os.environ.get(launch.LOCAL_WORLD, 1))):
            copier = _snapshot.Copier()  # one each: what was copied for another is gone, and its place may be taken
            copied = copier.copy(state)
            copier.settle()
            self._later.append(lambda: write(copied))
        else:
            self._tell_no_room()
            write(state)

    def _write_tokenizer(self, folder: Path) -> None:
        """It never changes, and takes its time to be put into words: the first checkpoint's files serve the others."""
        if not self._tokenizer:
            apart = self._side / TOKENIZER
            self.trainer.tokenizer.save_pretrained(apart)
            self._tokenizer = {str(file.relative_to(apart)): file.read_bytes() for file in apart.rglob("*.*")}
            shutil.rmtree(apart)
        for name, content in self._tokenizer.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)

    # The rest

    def _in_parts(self) -> bool:
        return self.trainer.settings.parallelism.preset not in presets.WHOLE_FILES

    def _await_parts(self) -> None:
        """Until other devices' threads have ended: told by files, as threads cannot exchange anything else."""
        others = range(1, self.trainer.args.world_size) if self._in_parts() else ()
        end = time.monotonic() + self.trainer.settings.parallelism.timeout
        marks = [self._side / f"{PART}{rank}" for rank in others]
        while not all(mark.exists() for mark in marks) and time.monotonic() < end:
            time.sleep(LOOK)
        for rank, mark in zip(others, marks, strict=True):
            if not mark.exists() or mark.with_suffix(FAILED).exists():
                raise OSError(f"device {rank} did not write its part, see log.rank{rank}.txt")

    def _copies(self) -> _snapshot.Copier | None:
        """What copies the state of this moment; None where it is written while the training waits."""
        trainer: Any = self.trainer
        if self._in_parts():  # each of them is looked at when it comes
            return _snapshot.Copier()
        if not trainer.is_world_process_zero():
            return None
        if trainer.is_fsdp_enabled:  # what is put together is a copy
            return _snapshot.Copier()
        state = [_snapshot.changing(trainer.model, trainer.model.state_dict())]
        if not trainer.settings.save.weights_only:
            state.append(trainer.optimizer.state_dict())
        if _snapshot.fits(state):
            return _snapshot.Copier()
        self._tell_no_room()
        return None

    def _tell_no_room(self) -> None:
        if not self._told:
            self._told = True
            print(
                "checkpoints: there is no room in memory for a copy of weights and optimizer, so the training waits "
                "while one is written",
                flush=True,
            )

    def _facts(self) -> dict[str, Any]:
        trainer, books, update = self.trainer, self.trainer.books, self.trainer.state.global_step
        return {
            "update": update,
            "of": len(trainer.updates),
            "resumable": not trainer.settings.save.weights_only,
            **books.judged(update),
            "digest": getattr(trainer.updates, "digest", None),
            "devices": trainer.args.world_size,
            "preset": trainer.settings.parallelism.preset,
            "books": books.state(),
        }

    @contextmanager
    def _disk(self, update: int) -> Iterator[None]:
        """Say what the disk refused in one sentence, and leave nothing half written."""
        try:
            yield
        except Exception as error:
            if not _of_disk(error):
                raise
            free = shutil.disk_usage(self.folder).free / 2**20 if self.folder.exists() else 0.0
            if self.trainer.is_world_process_zero():  # others may be writing into it
                shutil.rmtree(self._side, ignore_errors=True)
            why = "PyTorch's writer was stopped" if isinstance(error, RuntimeError) else error
            raise StageError(
                f"{self.folder}: checkpoint {update} cannot be written ({free:.0f} MiB were free): {why}. "
                "Checkpoints made before are whole: make room and give the same command again."
            ) from error

    def _together(self) -> None:
        if self.trainer.args.world_size > 1:
            torch.distributed.barrier()


@contextmanager
def handed_over(engine: Any, take: Callable[[Any, Callable[[Any], None]], None]) -> Iterator[None]:
    """What DeepSpeed writes meanwhile goes to `take`, with the way to write it: its checkpoint engine is one's own."""

    class Handing:
        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def save(self, state_dict: Any, path: str) -> None:
            take(state_dict, lambda state: real.save(state, path))

    real, engine.checkpoint_engine = engine.checkpoint_engine, Handing()
    try:
        yield
    finally:
        engine.checkpoint_engine = real


def _do(later: list[Callable[[], None]]) -> None:
    while later:
        later.pop(0)()  # and what it wrote is not kept in memory


def _of_disk(error: BaseException | None) -> bool:
    """Whether writing failed, as the system, libraries or PyTorch's writer say it, maybe before another error."""
    if error is None:
        return False
    known = isinstance(error, OSError) or type(error).__name__ == "SafetensorError" or disk_number(error) is not None
    torchs = isinstance(error, RuntimeError) and any(words in str(error) for words in TORCH_WRITES)
    return known or torchs or _of_disk(error.__context__)
