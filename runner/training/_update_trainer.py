"""transformers' Trainer with one loader item an optimizer update: the loop of every training here, blind to algorithms.

Trainer keeps the loop, the optimizer, mixed precision, wrapping and the contents of checkpoints. What is said
otherwise: an item is a list of micro-batches whose loss shares add up to the update's loss; one small exchange between
devices an update (never in the loop over micro-batches); an update that is not finite is skipped and written down.
"""

import contextlib
import dataclasses
import gc
import itertools
import math
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import PrinterCallback, Trainer, TrainingArguments

from runner.core.errors import StageError
from runner.core.job import Job
from runner.training import _into_zero, _whole_state, ledger, pace, schedule, speed
from runner.training._learner import TrainedModel
from runner.training._predictions import head_of, predict
from runner.training._profile import Profile
from runner.training._random_state import RandomState
from runner.training._save_checkpoint import Saver
from runner.training._stopped import Stopped
from runner.training._update_loader import loader
from runner.training.algorithm import Algorithm, LiveUpdates, Updates
from runner.training.evaluation import Evaluation
from runner.training.layers import arrange
from runner.training.planned import UpdateBatch
from runner.training.settings import Settings

SKIPPED_IN_A_ROW = 3  # updates without a finite loss or gradient that end a training


class UpdateTrainer(Trainer):
    """See the module. `books` is the training's ledger; `stopping` is true once all devices know of a stop."""

    def __init__(
        self, *, model: Any, args: TrainingArguments, tokenizer: Any, algorithm: Algorithm,
        updates: Updates | LiveUpdates, evaluation: Evaluation | None, settings: Settings, job: Job,
        books: ledger.Ledger,
    ) -> None:  # fmt: skip
        super().__init__(model=model, args=args)
        self.remove_callback(PrinterCallback)
        self.algorithm, self.updates, self.evaluation = algorithm, updates, evaluation
        self.tokenizer, self.settings, self.job, self.books = tokenizer, settings, job, books
        self.stopping = False
        self.saver = Saver(self)
        self.begin: RandomState | None = None  # of the update that is running
        self._head = head_of(model)
        self.fuse = False  # the head with the loss
        self._pace = pace.Pace(updates.cutting.budget)
        self._operations = speed.operations(model)
        self._peak = speed.peak(torch.cuda.get_device_name()) if torch.cuda.is_available() else None
        self._learning = self._learning_weights()
        if self._learning is not None:
            model.zero_grad = lambda set_to_none=True: _forget(self._learning or ())
        self._profile = Profile(settings.log.profile if self.is_world_process_zero() else None)
        self._item: UpdateBatch | None = None
        self._loss, self._grad_norm = 0.0, 0.0
        self._figures: dict[str, float] = {}
        self._sums: tuple[list[str], torch.Tensor] = ([], torch.zeros(0))
        self._told: Mapping[str, float] = {}
        self._mark, self._waited = time.monotonic(), 0.0

    # What Trainer asks of its data

    def get_train_dataloader(self) -> Any:
        """The planned updates of this device."""
        return loader(self.updates, self.settings.data.workers)

    def num_examples(self, dataloader: Any) -> int:
        """Updates: Trainer only tells this number."""
        return len(self.updates)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], None]:
        """The next update; the clock of an update starts here, so that waiting for data counts."""
        self._mark = time.monotonic()
        items = list(itertools.islice(epoch_iterator, num_batches))
        self._waited = time.monotonic() - self._mark
        return items, None

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted by Trainer; see speed.py."""
        return 0

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The rate of each update, from schedule.py."""
        if self.lr_scheduler is None:
            optim, highest = self.settings.optim, self.settings.lr
            chosen: Any = optimizer or self.optimizer
            self.lr_scheduler = LambdaLR(chosen, lambda done: schedule.share(optim, highest, done, num_training_steps))
            self._created_lr_scheduler = True
        return self.lr_scheduler

    # One update

    def training_step(  # type: ignore[override]
        self, model: Any, inputs: UpdateBatch | int, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Forward and backward of an update's micro-batches; gradients are exchanged with the last, or each."""
        self._profile.begin(self.state.global_step + 1)
        alone = self.args.world_size == 1
        self.begin = RandomState() if alone else None
        if isinstance(inputs, int):
            inputs = self._made(inputs, model)
        if not model.training:  # setting it again for thousands of modules takes a while
            model.train()
        self._item = self._cut_now(inputs)
        made = RandomState() if alone else None
        while (shares := self._passes(model, self._item)) is None:
            assert made is not None, "one device cannot begin an update anew that others are in"
            made.restore()
            self._item = self._smaller(model, self._item)
        self.begin = None
        self._sums, self._told = self._over_devices(shares, stop=self.job.stopping()), inputs.figures
        return self._sums[1].new_zeros((), dtype=torch.float32)  # Trainer's own sum of losses is not told

    def _settle(self) -> None:
        """Wait for the update's sums: as late as can be, so that the clipping is queued while the GPU is busy."""
        names, sent = self._sums
        sums = dict(zip(names, sent.tolist(), strict=True))
        self.stopping = sums.pop("stop") > 0
        self._loss, self._figures = sums.pop("loss"), {**sums, "data_seconds": self._waited, **self._told}

    def _passes(self, model: Any, item: UpdateBatch) -> list[dict[str, torch.Tensor]] | None:
        """What each micro-batch adds to the loss and the figures; None when memory ran out and it can begin anew."""
        alone = self.args.world_size == 1
        again = alone and not self.is_deepspeed_enabled  # which has gathered what finished micro-batches gave
        each = self.accelerator.is_fsdp2  # else all gradients would lie on every device, in bfloat16, until the last
        shares: list[dict[str, torch.Tensor]] = []
        for number, micro in enumerate(item.micros):
            if alone and self.job.stopping():
                raise Stopped
            last = number == len(item.micros) - 1
            self.accelerator.gradient_state._set_sync_gradients(last)
            try:
                with contextlib.nullcontext() if last or each else self.accelerator.no_sync(model):
                    share = self._share(model, micro, item.totals)
                    # devices average their gradients: times their number makes it a sum
                    self.accelerator.backward(share["loss"] * self.args.world_size)
            except torch.OutOfMemoryError as error:
                if not again:
                    raise self._too_large(item) from error
                return None
            shares.append({name: value.detach() for name, value in share.items()})
        return shares

    # How updates are cut

    def keep_pace(self, chosen: pace.Pace) -> None:
        """Cut updates, and evaluations that are not told otherwise, from now on as a pace says."""
        self._pace = chosen
        self.updates.cutting = dataclasses.replace(self.updates.cutting, budget=chosen.budget)
        if self.evaluation is not None and self.settings.eval.batch_tokens is None:
            self.evaluation.recut(chosen.budget)

    def _cut_now(self, item: UpdateBatch) -> UpdateBatch:
        """The update as it would be cut now: the loader may have cut it before the budget changed."""
        if isinstance(self.updates, LiveUpdates) or item.budget == self.updates.cutting.budget:
            return item
        made = self.updates[item.number]
        assert isinstance(made, UpdateBatch)
        return made

    def _smaller(self, model: Any, item: UpdateBatch) -> UpdateBatch:
        """The same update in smaller micro-batches, or with less kept of each, after memory ran out.

        Raises:
            StageError: nothing smaller is left.
        """
        model.zero_grad(set_to_none=True)
        gc.collect()
        found, slots = self._less(item)
        print(
            f"update {item.number + 1}: out of memory with micro-batches of {slots:,} tokens; again with "
            f"{found.budget:,} and {found.checkpointing} activation checkpointing",
            flush=True,
        )
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if found.checkpointing != self._pace.checkpointing:
            arrange(self.model, found.checkpointing, found.compiled)
        self.keep_pace(found)
        pace.write(self.job.folder / pace.FILE, found)
        if isinstance(self.updates, LiveUpdates):
            return self._made(item.number, model)
        return self._cut_now(item)

    def _less(self, item: UpdateBatch) -> tuple[pace.Pace, int]:
        """The next smaller pace for an update, and the size of the micro-batch that was too large.

        Raises:
            StageError: nothing smaller is left.
        """
        largest = max(item.micros, key=lambda micro: micro.slots)
        together = 2 if self.algorithm.whole_rows else 1  # the two of a pair are never cut apart
        found = pace.reduced(self._pace, largest.slots, alone=len(largest.sequences) <= together)
        if found is None:
            what = "sequence" if together == 1 else "pair"
            raise StageError(
                f"{self.job.name}: update {item.number + 1} ran out of memory on one {what} of {largest.tokens:,} "
                "tokens, with all activations recomputed. Lower max_length, or take train_type=lora or more devices."
            )
        return found, largest.slots

    def _too_large(self, item: UpdateBatch) -> StageError:
        """Memory ran out where an update cannot begin anew, as on one of several devices: the next start takes less."""
        found, slots = self._less(item)
        told = f"{self.job.name}: update {item.number + 1} ran out of memory on device {self.args.process_index}"
        given = self.settings.batch.tokens_per_device
        if given != "auto":
            return StageError(f"{told}, with batch.tokens_per_device={given}. Lower it, or take auto.")
        pace.write(self.job.folder / pace.FILE, found)
        return StageError(
            f"{told}, with micro-batches of {slots:,} tokens. {self.settings.afterwards('the last checkpoint')}, with "
            f"{found.budget:,} and {found.checkpointing} activation checkpointing."
        )

    def _made(self, number: int, model: Any) -> UpdateBatch:
        """An update that depends on the weights of this moment."""
        assert isinstance(self.updates, LiveUpdates)
        made = self.updates.make(number, TrainedModel(self, model, self._head))
        assert isinstance(made, UpdateBatch)
        return made

    def _share(self, model: Any, micro: Any, totals: Any) -> dict[str, torch.Tensor]:
        micro = micro.to(self.args.device)
        asked = (getattr(self.algorithm, "temperature", 1.0), self.fuse, getattr(self.algorithm, "weighted_sum", False))
        loss, figures = self.algorithm.loss(predict(model, self._head, micro, *asked), micro, totals)
        return {"loss": loss, **figures}

    def _over_devices(self, shares: list[dict[str, torch.Tensor]], **more: float) -> tuple[list[str], torch.Tensor]:
        """Sums of all micro-batches on all devices, in one exchange: names and values, not waited for."""
        shares = shares or [{"loss": torch.zeros((), device=self.args.device)}]  # an update without a gradient
        names = list(shares[0])
        sums = [torch.stack([share[name].double() for share in shares]).sum() for name in names]
        sent = torch.stack([*sums, *(sums[0].new_tensor(value) for value in more.values())])
        if self.args.world_size > 1:
            torch.distributed.all_reduce(sent)
        return [*names, *more], sent

    def _learning_weights(self) -> list[torch.nn.Parameter] | None:
        """The weights that learn, where nothing is wrapped around the model. To ask an adapted model for them, which
        has thousands of modules, takes as long as a part of its update.
        """
        if self.accelerator.distributed_type.value != "NO":
            return None
        model: Any = self.model
        return [parameter for parameter in model.parameters() if parameter.requires_grad]

    def _clip_grad_norm(self, model: Any) -> Any:
        if self._learning is None:
            return super()._clip_grad_norm(model)  # type: ignore[no-untyped-call]
        return torch.nn.utils.clip_grad_norm_(self._learning, self.args.max_grad_norm)

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> float:
        """The norm of the update's gradient; without a finite one, or a finite loss, the update is skipped."""
        empty = self._item is not None and not self._item.micros  # an engine would tell an old norm or none
        found = 0.0 if empty else super()._get_grad_norm(model, grad_norm)  # type: ignore[no-untyped-call]
        self._settle()
        if empty:
            self._grad_norm = 0.0
            return 0.0
        skipped = self.accelerator.optimizer_step_was_skipped  # by an engine that has stepped already
        self._grad_norm = math.nan if skipped or found is None else float(found)
        if not (math.isfinite(self._grad_norm) and math.isfinite(self._loss)):
            _forget(model.parameters())  # an optimizer leaves a weight without a gradient, and its moments, as they are
            self.books.skipped.append(self.books.whole.updates + 1)
        return self._grad_norm

    def end_update(self) -> None:
        """Count the update, once the optimizer has stepped.

        Raises:
            StageError: too many updates in a row had no finite loss or gradient.
        """
        assert self._item is not None
        update = self.state.global_step
        self._profile.end(self.job.folder, self._item.size.tokens)
        self.state.epoch = self._item.epoch
        self.books.add(self._item.size, self._loss, time.monotonic() - self._mark, self._figures)
        if self.books.skipped[-1:] == [update]:
            self._write_skipped(update)
        if self.is_world_process_zero():
            speed_now = self._item.size.tokens / max(time.monotonic() - self._mark, 1e-9)
            shown = {"loss": round(self._loss, 4), "tokens_per_s": round(speed_now)}
            self.job.progress.update(update, len(self.updates), "updates", **shown)

    def _write_skipped(self, update: int) -> None:
        assert self._item is not None
        file = self.job.folder / ledger.SKIPPED
        rows = [{"source": source, "row": row} for source, row in self._item.origins]
        if self.is_world_process_zero():
            print(
                f"update {update}: skipped, loss {self._loss}, gradient {self._grad_norm}. Its rows: {file}.",
                flush=True,
            )
            told = {"update": update, "loss": str(self._loss), "grad_norm": str(self._grad_norm), "rows": rows}
            ledger.append(file, told)
        if self.books.in_a_row() >= SKIPPED_IN_A_ROW:
            raise StageError(
                f"{self.job.name}: {SKIPPED_IN_A_ROW} updates in a row, the last {update}, had no finite loss or "
                f"gradient. Look at their rows in {file}, or lower optim.lr."
            )

    # What is told of it

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """A line of metrics.jsonl at the rhythm of `log.every`; Trainer's closing summary is not one."""
        if "loss" in logs:
            line = self.books.line(
                self.state.global_step, self.state.epoch or 0.0, self._grad_norm, logs["learning_rate"]
            )
            self._tell({**line, "mfu": self._mfu(line["tokens_per_s"]), "memory_gib": round(speed.memory_gib(), 3)})

    def _mfu(self, tokens_per_s: float | None) -> float | None:
        if self._peak is None or tokens_per_s is None:
            return None
        return float(round(self._operations * tokens_per_s / (self._peak * self.args.world_size), 4))

    def _tell(self, line: dict[str, Any]) -> None:
        if self.is_world_process_zero():
            ledger.append(self.job.folder / ledger.FILE, line)
        numbers = {key: value for key, value in line.items() if isinstance(value, int | float)}
        self.control = self.callback_handler.on_log(self.args, self.state, self.control, numbers)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """The loss on the rows kept aside, through the loss of training, and what else an evaluation tells."""
        assert self.evaluation is not None
        start = time.monotonic()
        self.evaluation.begin(TrainedModel(self, self.model_wrapped, self._head))
        self.model_wrapped.eval()
        shares = []
        with torch.no_grad():
            for micro in self.evaluation if self.evaluation.losses else ():
                if self.args.world_size == 1 and self.job.stopping():
                    raise Stopped
                shares.append(self._share(self.model_wrapped, micro, self.evaluation.totals))
        names, sent = self._over_devices(shares) if self.evaluation.losses else ([], torch.zeros(0))
        sums = {f"eval_{name}": value for name, value in zip(names, sent.tolist(), strict=True)}
        own = {name: value for name, value in sums.items() if name != "eval_loss"}
        own |= self.evaluation.judged
        self.books.evaluation(self.state.global_step, sums.get("eval_loss"), own)
        if self.is_world_process_zero():
            print(ledger.sentence(self.state.global_step, {**sums, **own}), flush=True)
        line = {"update": self.state.global_step, "epoch": round(self.state.epoch or 0.0, 6), **sums, **own}
        self._tell({**line, **self.evaluation.figures, "eval_seconds": round(time.monotonic() - start, 3)})
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, sums)
        return sums

    # Checkpoints

    def _get_output_dir(self, trial: Any) -> str:
        return str(self.saver.place)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.saver.save(lambda: super(UpdateTrainer, self)._save_checkpoint(model, trial))

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        if self.args.should_save:
            self.saver.weights(Path(str(output_dir)), state_dict, lambda state: self._write_weights(output_dir, state))

    def _write_weights(self, output_dir: str | None, state: Any) -> None:
        super()._save(output_dir, state)
        (Path(str(output_dir)) / "training_args.bin").unlink(missing_ok=True)  # a pickle that nothing here reads

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        write = super()._save_optimizer_and_scheduler
        self.saver.optimizer(Path(output_dir), lambda: write(output_dir))

    def _prepare_for_training(self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: str | None) -> Any:
        prepare: Any = super()._prepare_for_training
        if resume_from_checkpoint is None or not _into_zero.needed(self, Path(resume_from_checkpoint)):
            return prepare(max_steps, train_dataloader, resume_from_checkpoint)
        with _into_zero.filled(self, Path(resume_from_checkpoint)):
            return prepare(max_steps, train_dataloader, None)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self.is_fsdp_enabled or not hasattr(self.model, "peft_config"):
            _whole_state.load_weights(self.model, Path(resume_from_checkpoint))
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None or self.is_deepspeed_enabled:
            super()._load_optimizer_and_scheduler(checkpoint)
        else:
            _whole_state.load_optimizer_and_schedule(self, Path(checkpoint))


def _forget(parameters: Iterable[torch.nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.grad = None
