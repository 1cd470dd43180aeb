"""The model between two updates, as those see it who make the next one of answers that it samples itself."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from runner.core.types import Encoded
from runner.data.collate import collate, trained
from runner.data.micro_batches import cut
from runner.training._predictions import head_of, predict
from runner.training._stopped import Stopped

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
        args, cutting = self.trainer.args, self.trainer.updates.cutting
        lengths = [len(sequence.input_ids) for sequence in sequences]
        units = [(i,) for i in range(len(sequences)) if trained(sequences[i])]
        part = cut(lengths, units, cutting.budget, args.world_size, cutting.packed)[args.process_index]
        found: dict[int, list[float]] = {}
        with torch.no_grad(), self._asked(reference) as (model, head):
            for micro in part:
                self.stop_if_asked()
                made = collate([sequences[i] for i in micro.sequences], micro.sequences, cutting.packed, micro.filler)
                made = made.to(args.device)
                fuse = self.trainer.fuse and model is self.model
                told = predict(model, head, made, getattr(self.trainer.algorithm, "temperature", 1.0), fuse).logprobs
                told = told if values is None else values.last
                counts = torch.bincount(made.owners, minlength=len(micro.sequences)).tolist()
                parts = torch.split(told.float().cpu(), counts)
                found |= {} if micro.filler else dict(zip(micro.sequences, (p.tolist() for p in parts), strict=True))
        everything = _together(found, args.world_size)
        return [everything.get(i, []) for i in range(len(sequences))]

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
