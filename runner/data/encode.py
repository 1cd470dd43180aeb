"""Rows as token ids with labels and weights: the sequences that are trained on, and the rows that are not.

A sequence's ids are those of its text as the chat template renders it, tokenized once; labels and weights are laid by
the places of characters, never by looking for a token, so pad and end-of-turn token may be the same. A token belongs
to the stretch in which it starts. Refuses, row by row and with the reason, what cannot be trained on.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Literal

from runner.core.specs import Template
from runner.core.types import UNTRAINED, Encoded, Example
from runner.data.draft import Draft, Drafter
from runner.data.dropped import Dropped
from runner.data.judged import Rows
from runner.data.rules import Rules
from runner.data.tokens import Tokens, tokenize
from runner.data.words import words_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Overlong = Literal["drop", "truncate_left", "truncate_right", "split"]
FINISH = "finish_reason"  # the column of `infer`'s rows that tells why an answer ended
CUT_OFF = (
    f"answers were cut off ({FINISH}: length) and are learned as if they ended there; at their dataset the key "
    f"filter: '{FINISH} != \"length\"' leaves them out"
)


class Encoder:
    """Encodes rows for one tokenizer, template and set of rules.

    max_length: tokens of a sequence; None for no limit. overlong: what happens to longer ones. rows: what a row is read
    as; the two sequences of a pair are both kept or both dropped.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        template: Template,
        rules: Rules,
        max_length: int | None = None,
        overlong: Overlong = "drop",
        rows: Rows = "conversations",
    ) -> None:
        self.tokenizer, self.max_length, self.overlong = tokenizer, max_length, overlong
        self.drafter = Drafter(tokenizer, template, rules, rows=rows)
        self.words = words_of(tokenizer)

    @property
    def notes(self) -> Counter[str]:
        """What is worth telling about the rows so far, counted."""
        return self.drafter.notes

    def encode(self, example: Example) -> list[Encoded] | Dropped:
        """The sequences of a row, at least one, or why there are none."""
        made = self.drafter.draft(example)
        drafts = [] if isinstance(made, Dropped) else made
        return next(self._finished([example], [made], self._tokens(drafts)))

    def encode_many(self, examples: Iterable[Example], at_once: int = 256) -> Iterator[list[Encoded] | Dropped]:
        """As `encode`, for many rows; where the tokenizer itself works, the next are drafted meanwhile."""
        left = iter(examples)
        if self.words is not None:  # nothing waits for anything
            while some := list(islice(left, at_once)):
                made = [self.drafter.draft(example) for example in some]
                flat = [draft for drafts in made if not isinstance(drafts, Dropped) for draft in drafts]
                yield from self._finished(some, made, self._tokens(flat))
            return
        waiting: tuple[list[Example], list[list[Draft] | Dropped], Future[list[Tokens]]] | None = None
        with ThreadPoolExecutor(1) as beside:
            while some := list(islice(left, at_once)):
                drafts = [self.drafter.draft(example) for example in some]
                flat = [draft for made in drafts if not isinstance(made, Dropped) for draft in made]
                running = beside.submit(self._tokens, flat)
                if waiting is not None:
                    yield from self._finished(waiting[0], waiting[1], waiting[2].result())
                waiting = some, drafts, running
            if waiting is not None:
                yield from self._finished(waiting[0], waiting[1], waiting[2].result())

    def _tokens(self, drafts: Sequence[Draft]) -> list[Tokens]:
        return list(tokenize(self.tokenizer, self.drafter.control, self.words, [draft.text for draft in drafts]))

    def _finished(
        self, examples: Sequence[Example], drafts: Sequence[list[Draft] | Dropped], tokens: Sequence[Tokens]
    ) -> Iterator[list[Encoded] | Dropped]:
        left = iter(tokens)
        for example, made in zip(examples, drafts, strict=True):
            if isinstance(made, Dropped):
                yield made
            else:
                yield self._fitted(example, [self._encoded(example, draft, next(left)) for draft in made])

    def _encoded(self, example: Example, draft: Draft, tokens: Tokens) -> Encoded:
        ids = tokens.ids
        labels = [UNTRAINED] * len(ids)
        weights = [0.0] * len(ids) if any(weight != 1.0 for *_, weight in draft.trained) else None
        for start, end, weight in draft.trained:
            first, last = tokens.first_from(start), tokens.first_from(end)
            labels[first:last] = ids[first:last]
            if weights is not None:
                weights[first:last] = [weight] * (last - first)
        inside = sum(not tokens.begins(place) for place in draft.answers)
        if inside:
            self.notes["answers that begin inside a token, which stays untrained"] += inside
        made = Encoded(ids, labels, weights, example.source, example.row, draft.last, draft.text.text, draft.values)
        return _plain_weights(_untrained_start(made))

    def _fitted(self, example: Example, made: list[Encoded]) -> list[Encoded] | Dropped:
        """The same within max_length."""
        limit, whole = self.max_length, made
        if limit is not None and any(len(sequence.input_ids) > limit for sequence in made):
            pieces = self.overlong == "split" and example.text is not None
            if not pieces and self.overlong in ("drop", "split"):
                longest = max(len(sequence.input_ids) for sequence in made)
                why = f"{longest} > {limit} tokens" + ("; split cuts plain text only" * (self.overlong == "split"))
                return Dropped(example.source, example.row, "longer than max_length", why)
            made = [part for sequence in made for part in self._cut(sequence, limit)]
        kept = [sequence for sequence in made if sequence.labels.count(UNTRAINED) < len(sequence.labels)]
        if not kept or (len(kept) < len(made) and made[0].values):
            return Dropped(example.source, example.row, "nothing in it is trained within max_length")
        if limit is not None and made is not whole:
            self._note_cuts(example, whole, len(made) - len(kept), limit)
        if example.columns.get(FINISH) == "length" and example.text is None:
            self.notes[CUT_OFF] += 1
        return kept

    def _note_cuts(self, example: Example, whole: Sequence[Encoded], lost: int, limit: int) -> None:
        """A row whose end or beginning is gone teaches something else than it says: such rows are counted."""
        self.notes[f"rows longer than max_length ({limit}), cut by overlong: {self.overlong}"] += 1
        if example.text is not None:
            return
        if lost:
            self.notes["turns of these rows that are not trained, as the cut took all of them"] += lost
        if self.overlong == "truncate_right":
            long = (one.labels for one in whole if len(one.labels) > limit)
            parted = sum(UNTRAINED not in labels[limit - 1 : limit + 1] for labels in long)
            if parted:
                self.notes["answers whose end is cut off, so that nothing shows the model where to stop"] += parted

    def _cut(self, sequence: Encoded, limit: int) -> list[Encoded]:
        length = len(sequence.input_ids)
        if length <= limit:
            return [sequence]
        if self.overlong == "truncate_right":
            bounds = [(0, limit)]
        elif self.overlong == "truncate_left":
            bounds = [(length - limit, length)]
        else:  # a part begins with the last token of the one before: the next one is learned after it
            bounds = [(start, min(start + limit, length)) for start in range(0, length - 1, max(limit - 1, 1))]
        return [self._part(sequence, start, end) for start, end in bounds]

    def _part(self, sequence: Encoded, start: int, end: int) -> Encoded:
        ids = sequence.input_ids[start:end]
        weights = None if sequence.weights is None else sequence.weights[start:end]
        text = str(self.tokenizer.decode(ids))
        part = replace(sequence, input_ids=ids, labels=sequence.labels[start:end], weights=weights, text=text)
        return _plain_weights(_untrained_start(part))


def _untrained_start(sequence: Encoded) -> Encoded:
    """A first token is predicted from nothing, so it is never trained."""
    if sequence.labels and sequence.labels[0] != UNTRAINED:
        weights = None if sequence.weights is None else [0.0, *sequence.weights[1:]]
        return replace(sequence, labels=[UNTRAINED, *sequence.labels[1:]], weights=weights)
    return sequence


def _plain_weights(sequence: Encoded) -> Encoded:
    """No weights where all trained tokens weigh 1."""
    pairs = zip(sequence.labels, sequence.weights or (), strict=False)
    if sequence.weights is not None and all(weight == 1.0 for label, weight in pairs if label != UNTRAINED):
        return replace(sequence, weights=None)
    return sequence
