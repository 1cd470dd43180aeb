"""Writing a checkpoint of a running training: aside, by all devices, then finished by the first one."""

import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from runner.core.errors import StageError
from runner.training import checkpoints

if TYPE_CHECKING:
    from runner.training._update_trainer import UpdateTrainer


def save(trainer: "UpdateTrainer", write: Callable[[], None]) -> None:
    """Write the state after the last update, and rotate.

    Args:
        write: Trainer's own writing, into the folder that `trainer.side` names.

    Raises:
        StageError: the disk refused; checkpoints made before are untouched.
    """
    folder, update, first = trainer.job.folder, trainer.state.global_step, trainer.is_world_process_zero()
    side = folder / checkpoints.SIDE
    if first:
        shutil.rmtree(side, ignore_errors=True)
    _together(trainer)
    trainer.side = side
    try:
        write()
        _together(trainer)
        if first:
            checkpoints.finish(side / f"{checkpoints.PREFIX}{update}", folder, _facts(trainer))
            shutil.rmtree(side)
            checkpoints.rotate(folder, trainer.settings.save.keep)
    except Exception as error:
        if not _of_disk(error):
            raise
        free = shutil.disk_usage(folder).free / 2**20 if folder.exists() else 0.0
        shutil.rmtree(side, ignore_errors=True)
        raise StageError(
            f"{folder}: checkpoint {update} cannot be written ({free:.0f} MiB were free): {error}. "
            "Checkpoints made before are whole: make room and give the same command again."
        ) from error
    finally:
        trainer.side = None
    _together(trainer)


def _facts(trainer: "UpdateTrainer") -> dict[str, Any]:
    books, update = trainer.books, trainer.state.global_step
    return {
        "update": update,
        "of": len(trainer.updates),
        "resumable": not trainer.settings.save.weights_only,
        "eval_loss": books.eval_loss if books.evaluated == update else None,
        "digest": getattr(trainer.updates, "digest", None),
        "devices": trainer.args.world_size,
        "preset": trainer.settings.parallelism.preset,
        "books": books.state(),
    }


def _of_disk(error: BaseException | None) -> bool:
    """Whether writing failed, as the system, safetensors or PyTorch's writer say it, maybe before another error."""
    if error is None:
        return False
    known = isinstance(error, OSError) or type(error).__name__ == "SafetensorError"
    torchs = isinstance(error, RuntimeError) and ("write failed" in str(error) or "inline_container" in str(error))
    return known or torchs or _of_disk(error.__context__)


def _together(trainer: "UpdateTrainer") -> None:
    if trainer.args.world_size > 1:
        torch.distributed.barrier()
