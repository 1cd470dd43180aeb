"""Trains a model on planned updates by an algorithm, from where the last complete checkpoint left it to the end.

Leaves in the stage's folder: metrics.jsonl, checkpoints, and the model (or adapter). Refuses to go on from a checkpoint
of other data, and to end before all planned updates are done.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.core.errors import DataError, Interrupted, StageError
from runner.core.job import Job
from runner.engines import presets
from runner.models.dropout import has_dropout
from runner.training import checkpoints, ledger, pace
from runner.training.algorithm import Algorithm, Learner, LiveUpdates, Updates
from runner.training.arguments import arguments
from runner.training.evaluation import Evaluation
from runner.training.pace import Extent
from runner.training.planned import Cutting
from runner.training.settings import Settings, rhythm
from runner.training.write_model import write_model

if TYPE_CHECKING:
    from runner.training._update_trainer import UpdateTrainer


@dataclass(frozen=True)
class Work:
    """What is trained on. updates and evaluation: made for one device once it is known which.

    total: updates of the whole training. cutting: as for one device alone. before: what is to be done with the wrapped
    model before its first update; it is told how many updates the model has seen already. extent: what there is to do,
    for the pace on a GPU; None where it is not known.
    """

    total: int
    cutting: Cutting
    updates: Callable[[Cutting], Updates | LiveUpdates]
    evaluation: Callable[[Cutting], Evaluation] | None = None
    extent: Extent | None = None
    before: Callable[[Learner, int], None] | None = None


@dataclass(frozen=True)
class Trained:
    """folder: of the model or adapter. metrics: figures of the whole training."""

    folder: Path
    metrics: dict[str, Any]


def train(
    *, model: Any, tokenizer: Any, algorithm: Algorithm, work: Work, settings: Settings, job: Job,
    write_dtype: str | None = None,
) -> Trained:  # fmt: skip
    """Train to the end, or to the point where the user asks to stop.

    Args:
        model: with the right weights learning. write_dtype: see `write_model`.

    Raises:
        Interrupted: the user asked to stop; a checkpoint is written. StageError: no finite loss, a full disk.
        DataError: the last checkpoint is of other data.
    """
    books = ledger.Ledger(job.folder)
    trainer = _trainer(model, tokenizer, algorithm, work, settings, job, books)
    start = _resume(trainer, job, books)
    _run(trainer, start)
    done = trainer.state.global_step
    if done != work.total or books.whole.updates != work.total:
        raise StageError(
            f"{job.name}: {done} of {work.total} planned updates were done ({books.whole.updates} counted)."
        )
    folder, weights = job.folder, presets.whole_state(trainer)
    if trainer.is_world_process_zero():
        learned = trainer.accelerator.unwrap_model(trainer.model)
        folder = write_model(learned, tokenizer, job.folder, write_dtype, weights)
    return Trained(folder, _metrics(books, job.folder))


def _trainer(
    model: Any, tokenizer: Any, algorithm: Algorithm, work: Work, settings: Settings, job: Job, books: ledger.Ledger
) -> "UpdateTrainer":
    from transformers import set_seed

    from runner.training._beat import Beat
    from runner.training._before import Before
    from runner.training._update_trainer import UpdateTrainer

    args = arguments(settings, job, work.total, keep_cache=bool(getattr(model.config, "use_cache", True)))
    cutting = Cutting(work.cutting.budget, work.cutting.packed, args.world_size, args.process_index)
    trainer = UpdateTrainer(
        model=model, args=args, tokenizer=tokenizer, algorithm=algorithm, updates=work.updates(cutting),
        evaluation=work.evaluation(cutting) if work.evaluation else None, settings=settings, job=job, books=books,
    )  # fmt: skip
    if work.extent is not None and _on_gpu(args):
        from runner.training._pacing import Pacing

        trainer.add_callback(Pacing(trainer, work.extent))
    if work.before is not None:  # first: an evaluation that is made up for needs it
        trainer.add_callback(Before(trainer, work.before))
    trainer.add_callback(Beat(trainer, rhythm(settings, work.total)))
    presets.prove(trainer.accelerator, settings.parallelism)
    set_seed(job.seed + args.process_index)  # devices that drop out the same places would learn less
    return trainer


def _on_gpu(args: Any) -> bool:
    return bool(args.device.type == "cuda")


def _resume(trainer: "UpdateTrainer", job: Job, books: ledger.Ledger) -> checkpoints.Checkpoint | None:
    """The checkpoint to go on from; the books and metrics.jsonl are set back to it."""
    found, passed = checkpoints.last_complete(job.folder)
    first = trainer.is_world_process_zero()
    trainer.accelerator.wait_for_everyone()  # all have looked
    if first:
        for folder, flaw in passed.items():
            print(f"{folder}: {flaw}. Passed over.", flush=True)
            if flaw != checkpoints.WEIGHTS_ONLY:
                checkpoints.unmark(folder)
    if found is None:
        if first:
            ledger.cut_back(job.folder / ledger.FILE, 0, evaluated=False)
            ledger.cut_back(job.folder / ledger.SKIPPED, 0)
        return None
    if found.facts.get("digest") != trainer.updates.digest:
        raise DataError(
            f"{found.folder}: was made from other data or other settings than this training's. "
            f"Remove the folder {job.folder}, and the same command begins anew."
        )
    why = presets.cannot_resume(
        found.facts, trainer.settings.parallelism, trainer.args.world_size, trainer.settings.optim.name
    )
    if why is not None:
        raise DataError(f"{found.folder}: {why.format(folder=found.folder)}")
    books.restore(found.facts["books"])
    if first:
        print(f"going on from {found.folder.name}, update {found.update} of {found.facts['of']}", flush=True)
        if trainer.settings.eval.at_start and trainer.evaluation is not None and books.start is None:
            print(
                f"eval.at_start: nothing is evaluated before the first update, which was {found.update} updates ago",
                flush=True,
            )
        ledger.cut_back(job.folder / ledger.FILE, found.update, books.evaluated == found.update)
        ledger.cut_back(job.folder / ledger.SKIPPED, found.update)
        if presets.moved(found.facts, trainer.settings.parallelism, trainer.args.world_size):
            (job.folder / pace.FILE).unlink(missing_ok=True)  # was found for other devices
            if has_dropout(trainer.model):
                told = "dropout falls on other places than it would have on the devices before; all else is as it was"
                print(told, flush=True)
    return _put_together(trainer, found)


def _put_together(trainer: "UpdateTrainer", found: checkpoints.Checkpoint) -> checkpoints.Checkpoint:
    """The checkpoint itself, or one of ZeRO in whole files."""
    if not presets.to_be_put_together(found.facts, trainer.settings.parallelism, trainer.args.world_size):
        return found
    from runner.training._from_zero import converted

    apart = trainer.job.folder / checkpoints.PARTS
    if trainer.is_world_process_zero():
        converted(found.folder, apart, trainer.model)
    trainer.accelerator.wait_for_everyone()
    return dataclasses.replace(found, folder=apart / found.folder.name)


def _run(trainer: "UpdateTrainer", start: checkpoints.Checkpoint | None) -> None:
    try:
        stopped = _until_stopped(trainer, start)
    except BaseException:
        trainer.saver.join()  # a checkpoint that is being written becomes whole before this error is told
        raise
    trainer.saver.wait()
    if stopped or trainer.stopping:
        done, total = trainer.state.global_step, len(trainer.updates)
        raise Interrupted(
            f"{trainer.job.name}: stopped after update {done} of {total}. {trainer.settings.afterwards('there')}."
        )


def _until_stopped(trainer: "UpdateTrainer", start: checkpoints.Checkpoint | None) -> bool:
    """Train to the end; whether an update, or an evaluation, was dropped because of a stop."""
    import torch

    from runner.training._stopped import Stopped

    try:
        trainer.train(resume_from_checkpoint=str(start.folder) if start else None)
    except Stopped:
        _save_dropped(trainer)
        return True
    except torch.OutOfMemoryError as error:
        raise _no_memory(trainer) from error
    return False


def _no_memory(trainer: "UpdateTrainer") -> StageError:
    """Where memory ran out in something else than a micro-batch, such as the optimizer's step: the next start cuts
    smaller.
    """
    job, given, kept = trainer.job, trainer.settings.batch.tokens_per_device, trainer._pace
    told = f"{job.name}: memory ran out around update {trainer.state.global_step + 1}, in no micro-batch of it"
    if given != "auto":
        return StageError(f"{told}. Lower batch.tokens_per_device={given}, or take train_type=lora or more devices.")
    found = pace.reduced(kept, kept.budget, alone=False)
    assert found is not None
    pace.write(job.folder / pace.FILE, found)
    return StageError(
        f"{told}. {trainer.settings.afterwards('the last checkpoint')}, with micro-batches of up to {found.budget:,} "
        f"tokens (they were of up to {kept.budget:,})."
    )


def _save_dropped(trainer: "UpdateTrainer") -> None:
    """The state after the last whole update, when the one after it, or an evaluation, was dropped."""
    update = trainer.state.global_step
    if trainer.begin is not None:
        trainer.begin.restore()
    trainer.saver.wait()
    kept = checkpoints.read(trainer.job.folder / f"{checkpoints.PREFIX}{update}")
    enough = kept is not None and (checkpoints.resumable(kept) or trainer.settings.save.weights_only)
    if update and not enough:
        trainer._save_checkpoint(trainer.model_wrapped, None)


def _metrics(books: ledger.Ledger, folder: Path) -> dict[str, Any]:
    """What the artifact tells; the first four are shown."""
    whole, leading = books.whole, checkpoints.best(folder)
    made: dict[str, Any] = {"loss": books.final_loss}
    if books.eval_loss is not None:
        made["eval_loss"] = books.eval_loss
    made |= books.eval_figures
    made |= {f"start_{name}": value for name, value in (books.start or {}).items()}
    made |= {
        "mean_loss": whole.loss,
        "updates": whole.updates,
        "rows": whole.rows,
        "tokens": whole.tokens,
        "trained_tokens": whole.trained_tokens,
        "trained_share": round(whole.trained_tokens / max(whole.tokens, 1), 6),
        "padding_share": round(1.0 - whole.tokens / max(whole.slots, 1), 6),
        "seconds": round(whole.seconds, 3),
        "tokens_per_s": round(whole.tokens / max(whole.seconds, 1e-9), 2),
        "skipped_updates": len(books.skipped),
    }
    if books.best is not None:
        made |= {"best_update": books.best[0], f"best_{books.judge}": books.best[1]}
    if leading is not None:
        made["best_checkpoint"] = str(leading.folder)
    return made
