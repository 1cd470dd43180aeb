"""What every stage that trains on a mix shares: its keys, what it refuses when planning, the way from rows to weights.

Reads and encodes the mix, refuses what would teach something wrong, trains update by update, and leaves the adapter or
model with its tokenizer in `model/`, the figures in `metrics.jsonl` and their picture in `loss.png`. A kind of its own
says how rows are read and which algorithm learns from them.
"""

import dataclasses
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from runner.core.artifact import Artifact
from runner.core.errors import ConfigError, DataError
from runner.core.job import Job
from runner.core.schema import component
from runner.core.specs import Model, Rules
from runner.data.judged import Rows
from runner.models.locate import CONFIG
from runner.stages._device import first, seed
from runner.stages._learning import Learning

if TYPE_CHECKING:
    from runner.data.prepare import Encodings, Prepared
    from runner.data.updates import UpdatePlan
    from runner.models.locate import Located
    from runner.stages._known import Known
    from runner.training.algorithm import Algorithm
    from runner.training.pace import Extent
    from runner.training.train import Work

PICTURE = "loss.png"


@component
class Training(Learning):
    """Keys of a training. `batch` says what makes an update, over all devices."""

    overlong: Literal["drop", "truncate_left", "truncate_right", "split"] = "drop"
    loss_scale: Rules = dataclasses.field(default_factory=lambda: list[str | dict[str, Any]](["default"]))
    rows: ClassVar[Rows] = "conversations"  # what a row is read as

    def algorithm(self) -> "Algorithm":
        """What is learned from the model's predictions."""
        raise NotImplementedError

    def check(self, roots: Sequence[Path], key: str) -> None:
        """See `Learning.check`; refuse rules that are not there."""
        from runner.data.rules import check as check_rules

        super().check(roots, key)
        check_rules(self.loss_scale, roots, f"{key}.loss_scale")
        self._check_batch(key)

    def _check_batch(self, key: str) -> None:
        if self.batch.packs and self.max_length is None:
            raise ConfigError(
                f"{key}.batch.packs", "counts sequences of max_length, which is not given", "Give max_length."
            )

    def run(self, job: Job) -> Artifact:
        """Prepare, train, draw."""
        os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")  # micro-batches are of many sizes
        import torch

        from runner.models.load import load_tokenizer
        from runner.models.locate import locate
        from runner.report.curve import curve
        from runner.training.ledger import FILE
        from runner.training.precision import precision
        from runner.training.train import train

        self._needed()
        gpu = torch.cuda.is_available()
        located = locate(self.model, job.hub)
        tokenizer = load_tokenizer(located, chat=False)  # plain text needs no chat template
        prepared = self._prepare(tokenizer, job)
        kind = precision(self.model, self.train_type, gpu)
        algorithm = self.algorithm()
        work = self._work(prepared, algorithm, job, gpu)
        if first() and (longer := _beyond(located.base, prepared.train.lengths)):
            print(longer, flush=True)
        seed(job.seed)
        learner = self._learner(located, kind.model)
        made = train(
            model=learner, tokenizer=tokenizer, algorithm=algorithm, work=work,
            settings=self._settings(kind.autocast), job=job, write_dtype=kind.written,
        )  # fmt: skip
        folder = self._finished(learner, tokenizer, made.folder, kind.written)
        if first():
            curve(job.folder / FILE, job.folder / PICTURE, f"{job.run.name}: {job.name}")
        return Artifact(self.produces(), str(folder), base=located.name, metrics=made.metrics)

    def _finished(self, learner: Any, tokenizer: Any, folder: Path, dtype: str | None) -> Path:
        """What is left: the model or adapter as the training wrote it."""
        return folder

    def _learner(self, located: "Located", model: Model) -> Any:
        """The model with the right weights learning."""
        from runner.models.load import load_model
        from runner.models.tune import tune

        return tune(load_model(located, model, self.train_type), self.train_type)

    def _prepare(self, tokenizer: Any, job: Job) -> "Prepared":
        from runner.data import counted
        from runner.data.prepare import Reading, prepare

        reading = Reading(self.template, self.loss_scale, self.max_length, self.overlong, rows=self.rows)
        made = prepare(
            tokenizer, self.mix, reading,
            seed=job.seed, hub=job.hub, places=job.roots, max_dropped=self.data.max_dropped,
            folder=job.folder if first() else None, processes=self.data.processes,
        )  # fmt: skip
        if first():
            print("\n".join(made.report), flush=True)
            if job.identity:
                counted.remember(job.identity, counted.Counted(len(set(made.train.rows)), sum(made.train.lengths)))
        self._begin(job, bool(made.validation.sequences))
        return made

    def _work(self, prepared: "Prepared", algorithm: "Algorithm", job: Job, gpu: bool) -> "Work":
        from runner.data.updates import UpdatePlan
        from runner.models.attention import choose
        from runner.training.budget import tokens_per_device
        from runner.training.evaluation import Evaluation, first_rows
        from runner.training.planned import Cutting
        from runner.training.train import Work

        train, kept = prepared.train, first_rows(prepared.validation, self.eval.max_rows)
        lengths = train.lengths
        if not lengths:
            kept_aside = "all rows are kept aside for validation, or copies of those: none is left to train on"
            raise DataError(f"stages.{job.name}.mix: {kept_aside}. Give more rows, or another mix.validation.")
        plan = UpdatePlan(
            lengths, train.rows, self.batch, job.seed, self.epochs, self.max_updates, self.max_length, prepared.folder
        )
        budget = tokens_per_device(self.batch, gpu)
        attention = choose(self.model.attention, "cuda" if gpu else "cpu", self.model.dtype)
        if first():
            print(_told(plan.total, len(set(train.rows)), lengths), flush=True)
            print(f"attention: {attention.name} ({attention.reason})", flush=True)
        known = self._known(plan, train, kept, job)

        def evaluation(cutting: Cutting) -> Evaluation:
            return known.evaluation(
                algorithm, dataclasses.replace(cutting, budget=self.eval.batch_tokens or cutting.budget)
            )

        return Work(
            plan.total, Cutting(budget, attention.packed), lambda cutting: known.updates(algorithm, cutting),
            evaluation if kept.sequences else None, _extent(plan, algorithm.whole_rows), known.before,
        )  # fmt: skip

    def _known(self, plan: "UpdatePlan", train: "Encodings", kept: "Encodings", job: Job) -> "Known":
        """The sequences with all that the algorithm asks to know of them."""
        from runner.stages._known import Known

        return Known(plan, train, kept)


def _beyond(folder: Path, lengths: Sequence[int]) -> str | None:
    """What is to be known of sequences longer than those the model was made for: they train, and badly."""
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    most = (config.get("text_config") or config).get("max_position_embeddings")
    count = sum(length > most for length in lengths) if most else 0
    if not count:
        return None
    return (
        f"{count} of {len(lengths)} sequences are longer than the {most:,} tokens that the model was made for "
        f"(max_position_embeddings); max_length={most} leaves them out"
    )


def _extent(plan: "UpdatePlan", whole_rows: bool) -> "Extent":
    """What there is to do. whole_rows: whether the sequences of a row share a micro-batch."""
    from runner.training.pace import Extent

    lengths, held = plan.lengths, Counter[int]()
    for number, (row, length) in enumerate(zip(plan.rows, plan.lengths, strict=True)):
        held[row if whole_rows else number] += length
    update = max(sum(lengths[i] for i in plan.update(number)) for number in range(min(plan.total, 8)))
    epochs = plan.epoch_after(plan.total - 1)
    return Extent(int(sum(lengths) * epochs), max(held.values()), sum(lengths) // len(lengths), update)


def _told(updates: int, rows: int, lengths: Sequence[int]) -> str:
    return f"{updates} updates from {rows} rows of {sum(lengths):,} tokens, the longest {max(lengths):,}"
