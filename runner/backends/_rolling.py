"""Decodes many prompts at once: finished rows leave the batch and waiting ones take their places, under a token budget.

Plain batches run until their longest answer ends; here the batch stays full, and what prompts have in common is read
once: a system prompt, or the whole prompt of several samples. Models whose cache cannot be shifted
(sliding windows, recurrent states) are answered batch after batch by the same loop.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from runner.backends import _cache
from runner.backends._sampler import Row, Sampler

DEAD = 0.25  # share of finished rows at which the batch is made anew
WORTH = 64  # tokens that reading a common start by itself must save
FEW = 8  # tokens of a start that is there already and worth to be taken


@dataclass
class Slot:
    """A row's place in the batch. held: its tokens in the cache."""

    row: Row
    held: int = 0

    @property
    def alive(self) -> bool:
        """Whether its answer still grows."""
        return self.row.finish_reason is None


class Rolling:
    """One batch in the making.

    Args:
        ends: token ids that end an answer.
        budget: tokens (rows times the longest row) that the batch holds at the most; one row always fits.
        context: tokens that a row may have.
        stopped: tells whether a row's text so far holds a stop string.
    """

    def __init__(
        self, model: Any, sampler: Sampler, ends: set[int], budget: int, context: int, max_new_tokens: int,
        stopped: Callable[[Row], bool] | None = None,
    ) -> None:  # fmt: skip
        self.model, self.sampler, self.ends, self.stopped = model, sampler, ends, stopped
        self.budget, self.context, self.max_new_tokens = budget, context, max_new_tokens
        self.rolling = _cache.is_rolling(model.config)
        self._cache_name = _cache.keyword(model)
        self.slots: list[Slot] = []
        self.cache: Any = None
        self._start: tuple[list[int], Any] = ([], None)  # what prompts began with, and its cache of one row
        self._finished, self._tokens = 0, 0  # answers so far and their tokens

    @torch.inference_mode()
    def steps(self, waiting: deque[Row]) -> Iterator[list[Row]]:
        """Yield the rows that got a token, after each step, until all are finished."""
        while waiting or self._alive():
            joining = [Slot(row) for row in self._choose(waiting)]
            if joining:
                cache = self._begin(joining)
                self._regroup(self._alive(), joining, cache)
                yield [slot.row for slot in joining]
            elif self.rolling:
                self._shrink(waiting)
            alive = self._alive()
            if alive:
                for slot in self.slots:
                    slot.held += 1
                tokens = [[slot.row.new[-1] if slot.alive else 0] for slot in self.slots]
                self._draw(self.slots, self._read(tokens, [slot.held for slot in self.slots], self.cache))
                yield [slot.row for slot in alive]

    def _alive(self) -> list[Slot]:
        return [slot for slot in self.slots if slot.alive]

    def _choose(self, waiting: deque[Row]) -> list[Row]:
        """The rows that join now: as many as the budget holds with what they are expected to grow by."""
        alive = self._alive()
        if not waiting or (alive and not (self.rolling and self._is_sparse(alive))):
            return []
        room = self._tokens // self._finished if self._finished else min(self.max_new_tokens, _cache.ROOM)
        width = max((slot.held for slot in alive), default=0)
        chosen: list[Row] = []
        while waiting:
            width = max(width, len(waiting[0].ids) + len(waiting[0].new))
            if (alive or chosen) and (len(alive) + len(chosen) + 1) * (width + room) > self.budget:
                break
            chosen.append(waiting.popleft())
        return chosen

    def _is_sparse(self, alive: Sequence[Slot]) -> bool:
        """Whether enough rows are finished, and enough of the budget is free, to make the batch anew."""
        full = max(slot.held for slot in alive) * len(alive) >= (1 - DEAD) * self.budget
        return not full and len(self.slots) - len(alive) >= DEAD * len(self.slots)

    def _begin(self, joining: Sequence[Slot]) -> Any:
        """Read the rows that join into a cache of their own and draw their first tokens."""
        cache, texts = _cache.empty(self.model.config), [slot.row.ids + slot.row.new for slot in joining]
        for slot, text in zip(joining, texts, strict=True):
            slot.held = len(text)
        if not self.rolling:
            self._draw(joining, self._read(texts, [len(text) for text in texts], cache))
            return cache
        numbers = {text: number for number, text in enumerate(dict.fromkeys(map(tuple, texts)))}
        different = list(map(list, numbers))
        common = self._common(different)
        if common:
            cache = _cache.repeated(self._start[1], common, len(different))
        lengths = [len(text) for text in different]
        logits = self._read([text[common:] for text in different], lengths, cache, common)
        if common:
            _cache.close_gaps(cache, common, [max(lengths) - length for length in lengths])
        if len(different) < len(texts):
            places = [numbers[tuple(text)] for text in texts]
            _cache.keep(cache, places, 0)
            logits = logits[places]
        self._draw(joining, logits)
        return cache

    def _common(self, texts: list[list[int]]) -> int:
        """How many tokens all begin with, at least one less than any has, and 0 where they are not worth it; they are
        in `_start` then.
        """
        most = min(map(len, texts)) - 1
        own, known = (min(_alike(some), most) for some in (texts, [*texts, self._start[0]]))
        if known < own and own * (len(texts) - 1) >= WORTH:
            cache = _cache.empty(self.model.config)
            self._read([texts[0][:own]], [own], cache)
            self._start = (texts[0][:own], cache)
            return own
        return known if known >= FEW else 0

    def _read(self, tokens: list[list[int]], held: list[int], cache: Any, common: int = 0) -> torch.Tensor:
        """Read the next tokens of rows into the cache; the logits [rows, vocabulary] of what follows.

        Args:
            held: tokens of each row afterwards. common: so many of them stand in the first columns, the others in the
                last ones.
        """
        new, device = max(len(part) for part in tokens), self.model.device
        columns = torch.arange(cache.get_seq_length() + new, device=device)[None]
        wanted = torch.tensor(held, device=device)[:, None]
        made = self.model(
            input_ids=torch.tensor([[0] * (new - len(part)) + part for part in tokens], device=device),
            attention_mask=((columns >= columns.shape[1] - (wanted - common)) | (columns < common)).long(),
            position_ids=(torch.arange(new, device=device)[None] + wanted - new).clamp(min=0),
            use_cache=True,
            logits_to_keep=1,
            **{self._cache_name: cache},
        )
        logits: torch.Tensor = made.logits[:, -1]
        return logits

    def _draw(self, slots: Sequence[Slot], logits: torch.Tensor) -> None:
        """The next token of each row that is not finished."""
        drawing = [place for place, slot in enumerate(slots) if slot.alive]
        rows = [slots[place].row for place in drawing]
        self.sampler.draw(logits if len(rows) == len(slots) else logits[drawing], rows)
        for row in rows:
            self._judge(row)

    def _judge(self, row: Row) -> None:
        if row.new[-1] in self.ends or (self.stopped is not None and self.stopped(row)):
            row.finish_reason = "stop"
        elif len(row.new) >= self.max_new_tokens or len(row.ids) + len(row.new) >= self.context:
            row.finish_reason = "length"
        if row.finish_reason:
            self._finished, self._tokens = self._finished + 1, self._tokens + len(row.new)

    def _regroup(self, kept: list[Slot], joining: Sequence[Slot] = (), cache: Any = None) -> None:
        """Make the batch of these slots, those that join after those that stay."""
        if kept:
            places = [place for place, slot in enumerate(self.slots) if any(slot is one for one in kept)]
            cut = self.cache.get_seq_length() - max(slot.held for slot in kept)
            _cache.keep(self.cache, places, cut, cache)
        else:
            self.cache = cache
        self.slots = [*kept, *joining]

    def _shrink(self, waiting: deque[Row]) -> None:
        """Leave finished rows out; send the last to join back to wait where the batch has outgrown its budget."""
        alive = self._alive()
        over = 0
        while len(alive) - over > 1 and (len(alive) - over) * max(slot.held for slot in alive) > self.budget:
            over += 1
        waiting.extendleft(slot.row for slot in alive[len(alive) - over :])
        kept = alive[: len(alive) - over]
        if kept and len(self.slots) - len(kept) >= max(1, DEAD * len(self.slots) if not over else 1):
            self._regroup(kept)


def _alike(texts: list[list[int]]) -> int:
    """How many tokens all begin with."""
    first, last = min(texts), max(texts)  # the two that part the earliest
    return next((at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first))
