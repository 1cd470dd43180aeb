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
        shutil.rmtree(side, ignore_errors=True)
        raise StageError(
            f"{folder}: checkpoint {update} cannot be written: {error}. "
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
        "books": books.state(),
    }


def _of_disk(error: Exception) -> bool:
    """Whether writing failed: as the system says it, or as safetensors and PyTorch's writer do."""
    return isinstance(error, OSError) or type(error).__name__ == "SafetensorError" or "write failed" in str(error)


def _together(trainer: "UpdateTrainer") -> None:
    if trainer.args.world_size > 1:
        torch.distributed.barrier()
