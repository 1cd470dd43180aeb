"""Timed passes over micro-batches of random tokens through a model wrapped for training; nothing is learned of it."""

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from runner.core.types import Encoded
from runner.data.collate import MicroBatch, collate
from runner.training._predictions import predict
from runner.training._random_state import RandomState
from runner.training.layers import Checkpointing, arrange
from runner.training.pace import Sample

if TYPE_CHECKING:
    from runner.training._update_trainer import UpdateTrainer

T = TypeVar("T")

TIMED = 2  # passes after the first, which compiles
FEW = 16  # tokens on which the fused head is tried
CLOSE = 0.05  # in log-probability: what bfloat16 leaves of a difference


class Trial:
    """Measures for `pace.find`. typical: tokens of the sequences that a micro-batch is made of. mode: the last tried.

    Several devices measure together and get the same answer, that of the slowest and fullest of them.
    """

    def __init__(self, trainer: "UpdateTrainer", typical: int, compiled: bool) -> None:
        self.trainer, self.typical, self.compiled = trainer, typical, compiled
        self.model: Any = trainer.model
        self.head: Any = trainer._head
        self.mode: Checkpointing | None = None

    def measure(self, mode: Checkpointing, tokens: int) -> Sample | None:
        """A micro-batch of so many tokens; None when memory runs out."""
        begun = time.monotonic()
        if mode != self.mode:
            arrange(self.model, mode, self.compiled)
            self.mode = mode
        _empty()
        torch.cuda.reset_peak_memory_stats()
        micro, seconds = self._micro(tokens), float("inf")
        try:
            for turn in range(1 + TIMED):
                start = time.monotonic()
                self._pass(micro)
                torch.cuda.synchronize()
                seconds = min(seconds, time.monotonic() - start) if turn else seconds
            gib = torch.cuda.max_memory_allocated() / 2**30
        except torch.OutOfMemoryError:
            gib = float("inf")
        self.model.zero_grad(set_to_none=True)
        _empty()
        seconds, gib = of_all(self.trainer, seconds, gib)
        if self.trainer.is_world_process_zero():
            told = f"{seconds:.3f} s, {gib:.1f} GiB" if gib < float("inf") else "out of memory"
            print(f"trial: {mode}, {tokens:,} tokens: {told} ({time.monotonic() - begun:.0f} s)", flush=True)
        return Sample(tokens, seconds, gib) if gib < float("inf") else None

    def _micro(self, tokens: int) -> MicroBatch:
        trainer = self.trainer
        count = max(1, tokens // max(self.typical, 1))
        sizes = [tokens // count + (i < tokens % count) for i in range(count)]
        words = torch.randint(0, self.head.weight.shape[0], (tokens,)).tolist()
        starts = [sum(sizes[:i]) for i in range(count)]
        rows = [words[start : start + size] for start, size in zip(starts, sizes, strict=True)]
        packed = trainer.updates.cutting.packed
        return collate([Encoded(row, row, None) for row in rows], range(count), packed).to(trainer.args.device)

    def _pass(self, micro: MicroBatch) -> None:
        trainer = self.trainer
        model = trainer.model_wrapped
        with trainer.accelerator.no_sync(model):
            weighted = getattr(trainer.algorithm, "weighted_sum", False)
            made = predict(model, self.head, micro, fuse=trainer.fuse, weighted=weighted)
            trainer.accelerator.backward(made.logprobs.mean())  # the weights of a trial are all 1


def of_all(trainer: "UpdateTrainer", *figures: float) -> list[float]:
    """The highest of each figure over all devices."""
    if trainer.args.world_size == 1:
        return list(figures)
    sent = torch.tensor(figures, dtype=torch.float64, device=trainer.args.device)
    torch.distributed.all_reduce(sent, op=torch.distributed.ReduceOp.MAX)
    return list(sent.tolist())


def of_first(trainer: "UpdateTrainer", value: T) -> T:
    """What the first device says, on all of them: each host remembers other things."""
    if trainer.args.world_size == 1:
        return value
    said = [value]
    torch.distributed.broadcast_object_list(said, src=0, device=trainer.args.device)
    return said[0]


def _empty() -> None:
    gc.collect()
    torch.cuda.empty_cache()


@contextmanager
def untouched(model: Any) -> Iterator[None]:
    """Leaves random numbers and the figure of most memory as a trial found them; the model trains meanwhile."""
    state = RandomState()
    model.train()
    try:
        yield
    finally:
        state.restore()
        torch.cuda.reset_peak_memory_stats()


def fused_agrees(model: Any, head: Any, packed: bool) -> bool:
    """Whether log-probabilities through the kernel are those of the model itself, on a few tokens.

    Args:
        model: as wrapped for training, on a GPU. packed: whether its attention takes packed batches.
    """
    ids = torch.randint(0, head.weight.shape[0], (FEW,), generator=torch.Generator().manual_seed(0)).tolist()
    micro = collate([Encoded(ids, ids, None)], [0], packed).to(next(model.parameters()).device)
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            one, other = (predict(model, head, micro, fuse=fuse).logprobs for fuse in (False, True))
    finally:
        model.train(training)
    return one.shape == other.shape and bool(((one - other).abs() < CLOSE).all())
