"""The model between two updates, as those see it who make the next one of answers that it samples itself. What it is
asked, and what another model is asked beside it, needs less memory than training, and goes on with less where that is
still too much.
"""

import contextlib
import gc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from runner.core.errors import StageError
from runner.core.types import Encoded
from runner.data.collate import MicroBatch, collate, trained
from runner.data.micro_batches import cut
from runner.training import fused_head
from runner.training._predictions import head_of, logprobs
from runner.training._stopped import Stopped
from runner.training.planned import Cutting

if TYPE_CHECKING:
    from runner.training._update_trainer import UpdateTrainer


class TrainedModel:
    """See `Learner`. model: wrapped for training; head: its output layer."""

    def __init__(self, trainer: "UpdateTrainer", model: Any, head: torch.nn.Module) -> None:
        self.trainer, self.model, self._head = trainer, model, head

    @property
    def own(self) -> Any:
        """The model without what training wraps around it; an adapter stays beside its base."""
        return self.trainer.accelerator.unwrap_model(self.model)

    @property
    def figures(self) -> Mapping[str, float]:
        """See `Learner.figures`."""
        return self.trainer._figures

    def stop_if_asked(self) -> None:
        """See `Learner.stop_if_asked`; several devices stop together, once the update is done."""
        if self.trainer.args.world_size == 1 and self.trainer.job.stopping():
            raise Stopped

    def logprobs(self, sequences: Sequence[Encoded], reference: Any = None, values: Any = None) -> list[list[float]]:
        """See `Learner.logprobs`. Each device runs its part; every device gets all."""
        updates, world, found = self.trainer.updates, self.trainer.args.world_size, dict[int, list[float]]()
        cutting = updates.cutting
        with torch.no_grad(), self._asked(reference) as asked:
            while (failed := self._pass(asked, sequences, values, cutting, found)) is not None:
                cutting = replace(cutting, budget=self._smaller(failed))
        everything = _together(found, world)
        return [everything.get(i, []) for i in range(len(sequences))]

    def _pass(
        self, asked: tuple[Any, torch.nn.Module], sequences: Sequence[Encoded], values: Any, cutting: Cutting,
        found: dict[int, list[float]],
    ) -> MicroBatch | None:  # fmt: skip
        """Add what is not found yet; the micro-batch on which memory ran out of a device that is alone."""
        (model, head), args = asked, self.trainer.args
        lengths = [len(sequence.input_ids) for sequence in sequences]
        units = [(i,) for i in range(len(sequences)) if i not in found and trained(sequences[i])]
        temperature = getattr(self.trainer.algorithm, "temperature", 1.0)
        fuse = self.trainer.fuse and (model is self.model or fused_head.possible(head))
        for micro in cut(lengths, units, cutting.budget, args.world_size, cutting.packed)[args.process_index]:
            self.stop_if_asked()
            made = collate([sequences[i] for i in micro.sequences], micro.sequences, cutting.packed, micro.filler)
            made = made.to(args.device)
            try:
                told = logprobs(model, head, made, temperature, fuse)
            except torch.OutOfMemoryError:
                if args.world_size > 1:
                    raise
                return made
            told = told if values is None else values.last
            counts = torch.bincount(made.owners, minlength=len(micro.sequences)).tolist()
            parts = torch.split(told.float().cpu(), counts)
            found |= {} if micro.filler else dict(zip(micro.sequences, (p.tolist() for p in parts), strict=True))
        return None

    def _smaller(self, failed: MicroBatch) -> int:
        """Tokens of a micro-batch that may fit.

        Raises:
            StageError: nothing smaller is left.
        """
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(failed.sequences) == 1:
            raise StageError(
                f"{self.trainer.job.name}: log-probabilities of one sequence of {failed.tokens:,} tokens ran out of "
                "memory. Lower max_length, or take more devices."
            )
        budget = failed.slots // 2
        print(
            f"log-probabilities: out of memory with micro-batches of {failed.slots:,} tokens; on with {budget:,}",
            flush=True,
        )
        return budget

    @contextlib.contextmanager
    def _asked(self, reference: Any) -> Iterator[tuple[Any, torch.nn.Module]]:
        """The model that is asked, in evaluation mode, and its output layer."""
        if reference is not None and reference != "base":
            yield reference.eval(), head_of(reference)
            return
        self.model.eval()
        with self.own.disable_adapter() if reference == "base" else contextlib.nullcontext():
            yield self.model, self._head


def _together(found: dict[int, list[float]], world: int) -> dict[int, list[float]]:
    if world == 1:
        return found
    parts: list[Any] = [None] * world
    torch.distributed.all_gather_object(parts, found)
    return {i: values for part in parts for i, values in part.items()}
