"""From a recipe's mix to what a training stage needs: encoded rows to train on and to evaluate with, and the report.

One call for every stage that trains. Writes `dropped.jsonl` into the stage's folder, tells what is worth knowing, and
refuses a mix that loses more rows than the recipe allows.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from runner.core.specs import Mix, Template
from runner.core.specs import Rules as RuleNames
from runner.core.types import Example
from runner.data import dropped, gate, mix, rules
from runner.data.collate import trained
from runner.data.encode import Encoder, Encodings, Overlong, encode_all

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Reading:
    """How rows become tokens: the recipe's keys that decide it."""

    template: Template
    loss_scale: RuleNames
    max_length: int | None = None
    overlong: Overlong = "drop"

    def encoders(
        self, tokenizer: "PreTrainedTokenizerBase", parts: Sequence[mix.Part], places: Sequence[Path]
    ) -> list[Encoder]:
        """One for each dataset of a mix, which may have rules and turns of its own; alike ones are the same object."""
        known: dict[str, Encoder] = {}
        made: list[Encoder] = []
        for part in parts:
            names = self.loss_scale if part.spec.loss_scale is None else part.spec.loss_scale
            template = replace(self.template, turns=part.spec.turns or self.template.turns)
            key = repr((names, template))
            if key not in known:
                known[key] = Encoder(tokenizer, template, rules.load(names, places), self.max_length, self.overlong)
            made.append(known[key])
        return made


@dataclass(frozen=True)
class Prepared:
    """Encoded rows, and sentences about them. `train.lengths` and `train.rows` are what `UpdatePlan` asks for."""

    train: Encodings
    validation: Encodings
    examples: mix.Mixed
    report: tuple[str, ...]


def prepare(
    tokenizer: "PreTrainedTokenizerBase",
    given: Mix,
    reading: Reading,
    *,
    seed: int,
    hub: str,
    places: Sequence[Path],
    max_dropped: float,
    folder: Path | None = None,
    gated: bool = True,
) -> Prepared:
    """Read and encode a mix.

    Args:
        max_dropped: the share of rows that may be lost. folder: where `dropped.jsonl` is written, if anywhere.
        gated: refuse what must not be trained on (`gate`); `inspect` shows it first.

    Raises:
        ConfigError, DataError: a mix that cannot be read, or loses too many rows. ModelError: a chat template that
        cannot be trained on. PluginError: a rule that fails.
    """
    read = mix.load(given, seed, hub, places)
    encoders = reading.encoders(tokenizer, read.parts, places)
    train, validation = encode_all(encoders, read.train), encode_all(encoders, read.validation)
    lost = list(dict.fromkeys([*read.dropped, *train.dropped, *validation.dropped]))
    if folder is not None:
        dropped.write(folder, lost)
    dropped.refuse_many(lost, len(_rows([*read.train, *read.validation])) + len(read.dropped), max_dropped)
    if gated:
        gate.check([*train.sequences, *validation.sequences], tokenizer)
    return Prepared(train, validation, read, tuple(_report(read, train, validation, lost, encoders)))


def _rows(examples: Sequence[Example]) -> set[tuple[str, int]]:
    return {(example.source, example.row) for example in examples}


def _report(
    read: mix.Mixed,
    train: Encodings,
    validation: Encodings,
    lost: Sequence[dropped.Dropped],
    encoders: Sequence[Encoder],
) -> list[str]:
    """Shares of the mix by rows and by trained tokens, what was lost, and what the rows show."""
    part_of = [example.part for example in read.train]
    kept, tokens = Counter(part_of[row] for row in set(train.rows)), Counter[int]()
    for sequence, row in zip(train.sequences, train.rows, strict=True):
        tokens[part_of[row]] += len(trained(sequence))
    told = [
        f"{part.name}: {kept[i]} rows ({_share(kept, i)}), {tokens[i]:,} trained tokens ({_share(tokens, i)})"
        for i, part in enumerate(read.parts)
        if part.train
    ]
    if validation.sequences:
        told.append(f"validation: {len(set(validation.rows))} rows")
    told += [f"dropped: {count} rows, {reason}" for reason, count in dropped.by_reason(lost).items()]
    notes = sum((encoder.notes for encoder in dict.fromkeys(encoders)), Counter[str]())
    return [*told, *(f"{count:,} {note}" for note, count in notes.items())]


def _share(counts: Mapping[int, int], key: int) -> str:
    return f"{counts.get(key, 0) / (sum(counts.values()) or 1):.0%}"
