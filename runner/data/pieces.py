"""Encodes many rows piece by piece, in this process or in several, each piece into Arrow columns.

Helpers are started fresh from a small server process, never forked from one that holds a model; each gets the
tokenizer once and pieces of examples after that. Pieces come back in the order of the rows, whatever their number.
"""

import gc
import os
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.core.errors import StageError
from runner.core.specs import Rules as RuleNames
from runner.core.specs import Template
from runner.core.types import Example
from runner.data import rules, store
from runner.data.dropped import Dropped
from runner.data.encode import FINISH, Encoder, Overlong
from runner.data.judged import Rows

if TYPE_CHECKING:
    import pyarrow
    from transformers import PreTrainedTokenizerBase

SIZE, LETTERS = 512, 1 << 20  # rows of a piece, and characters from which on it ends with fewer


@dataclass(frozen=True)
class Reading:
    """How rows become tokens: the recipe's keys that decide it, what a row is read as, and where plugins are found."""

    template: Template
    loss_scale: RuleNames
    max_length: int | None = None
    overlong: Overlong = "drop"
    places: tuple[Path, ...] = ()
    rows: Rows = "conversations"

    def encoder(self, tokenizer: "PreTrainedTokenizerBase") -> Encoder:
        """The encoder that does it."""
        loaded = rules.load(self.loss_scale, self.places)
        return Encoder(tokenizer, self.template, loaded, self.max_length, self.overlong, self.rows)


@dataclass(frozen=True)
class Piece:
    """Some rows, encoded. rows: how many there were. sequences: Arrow columns of `store`."""

    rows: int
    sequences: "pyarrow.RecordBatch"
    dropped: tuple[Dropped, ...]
    notes: Counter[str]


def pieces(
    tokenizer: "PreTrainedTokenizerBase", readings: Sequence[Reading], examples: Sequence[Example], processes: int = 1
) -> Iterator[Piece]:
    """Encode all examples.

    Args:
        readings: one for each dataset of the mix; `Example.part` says which.
        processes: how many work at once; 1, or few rows, is this process alone.
    """
    work = _cut(examples)
    if processes <= 1 or len(examples) < 2 * processes * SIZE:
        encoders = _Encoders(tokenizer, readings)
        for some in work:
            with seldom_collected():
                made = encoders.piece(*some)
            yield made
        return
    server = get_context("forkserver")
    server.set_forkserver_preload(["runner.data._encoding_process"])
    with ProcessPoolExecutor(processes, server, _start, (tokenizer, tuple(readings))) as pool:
        try:
            yield from _in_order(pool, work, 2 * processes)
        except BrokenProcessPool:
            raise StageError(
                "data.processes: a process that encodes rows died; was memory short? Try fewer: data.processes=1."
            ) from None


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Rows are lists and texts without cycles: Python's search for these would take a third of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _cut(examples: Sequence[Example]) -> Iterator[tuple[int, list[Example]]]:
    """Pieces of rows of one dataset, each with the number of its first row; most columns stay behind."""
    some: list[Example] = []
    letters = 0
    for number, example in enumerate(examples):
        if some and (len(some) == SIZE or letters > LETTERS or example.part != some[0].part):
            yield number - len(some), some
            some, letters = [], 0
        known = {FINISH: example.columns[FINISH]} if FINISH in example.columns else {}
        some.append(replace(example, columns=known))
        letters += len(example.text or "") + sum(len(message.content) for message in example.messages)
    if some:
        yield len(examples) - len(some), some


def _in_order(pool: ProcessPoolExecutor, work: Iterable[tuple[int, list[Example]]], ahead: int) -> Iterator[Piece]:
    """Never more than `ahead` pieces on their way, so that memory stays small."""
    left = iter(work)
    running: deque[Future[Piece]] = deque(pool.submit(_piece, *some) for some in islice(left, ahead))
    while running:
        yield running.popleft().result()
        running.extend(pool.submit(_piece, *some) for some in islice(left, 1))


class _Encoders:
    """The encoders of a mix; datasets that are read alike share one."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", readings: Sequence[Reading]) -> None:
        known: dict[str, Encoder] = {}
        for reading in readings:
            if repr(reading) not in known:
                known[repr(reading)] = reading.encoder(tokenizer)
        self.of_part = [known[repr(reading)] for reading in readings]

    def piece(self, first: int, examples: list[Example]) -> Piece:
        """Encode rows of one dataset."""
        encoder = self.of_part[examples[0].part]
        encoder.notes.clear()
        gc.collect(1)  # of what the last piece left
        sequences, numbers, dropped = [], [], []
        for number, outcome in enumerate(encoder.encode_many(examples), first):
            if isinstance(outcome, Dropped):
                dropped.append(outcome)
            else:
                sequences += outcome
                numbers += [number] * len(outcome)
        return Piece(len(examples), store.batch(sequences, numbers), tuple(dropped), Counter(encoder.notes))


_held: Any = None  # the encoders of a helper process


def _start(tokenizer: Any, readings: Sequence[Reading]) -> None:
    global _held
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that waits for the pieces decides
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # there is a process for every core already
    gc.disable()
    _held = _Encoders(tokenizer, readings)


def _end_with(parent: int) -> None:
    """A helper never outlives the run, however that ended."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _piece(first: int, examples: list[Example]) -> Piece:
    made: Piece = _held.piece(first, examples)
    return made
