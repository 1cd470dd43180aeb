"""From a recipe's mix to what a training stage needs: encoded rows to train on and to evaluate with, and the report.

One call for every stage that trains, the same in every process of a run: what one has encoded the others find in the
cache. Writes `dropped.jsonl` into the stage's folder, tells what is worth knowing, and refuses a mix that loses more
rows than the recipe allows, or rows that must not be trained on.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.core import content, registry, schema
from runner.core.imported import source_digest
from runner.core.places import PACKAGE
from runner.core.specs import Dataset, Mix
from runner.core.types import Encoded
from runner.data import cache, dropped, gate, mix, rules, store
from runner.data.hub import fetch
from runner.data.judged import FORMATS
from runner.data.pieces import Piece, Reading, pieces, seldom_collected
from runner.data.render import template_text
from runner.data.sources import parse

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Encodings", "Prepared", "Reading", "prepare"]

TRAIN, VALIDATION, LOST, GATED = "train.arrow", "validation.arrow", "dropped.jsonl", "gated"
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Encodings:
    """Sequences of rows.

    rows: for each sequence the number of the example it comes from: two copies of a row are two examples.
    """

    sequences: Sequence[Encoded] = field(default_factory=list)
    rows: Sequence[int] = field(default_factory=list)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each sequence, without reading them."""
        known: list[int] | None = getattr(self.sequences, "lengths", None)
        return [len(sequence.input_ids) for sequence in self.sequences] if known is None else known


@dataclass(frozen=True)
class Prepared:
    """Encoded rows, and sentences about them. `train.lengths` and `train.rows` are what `UpdatePlan` asks for.

    cached: whether they were encoded before. folder: where they lie.
    """

    train: Encodings
    validation: Encodings
    dropped: tuple[dropped.Dropped, ...]
    report: tuple[str, ...]
    cached: bool
    folder: Path


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
    processes: int = 1,
    progress: Progress = lambda done, total: None,
) -> Prepared:
    """Read and encode a mix, or take it from the cache.

    Args:
        max_dropped: the share of rows that may be lost. folder: where `dropped.jsonl` is written, if anywhere.
        gated: refuse what must not be trained on (`gate`); `inspect` shows it first.
        processes: how many encode. progress: is told how many rows of how many are done.

    Raises:
        ConfigError, DataError: a mix that cannot be read, or loses too many rows. ModelError: a chat template that
        cannot be trained on. PluginError: a rule that fails.
    """
    mix.check(given, places, hub)
    own = replace(reading, places=tuple(places))
    name = cache.key(_decides(tokenizer, given, own, seed, hub))

    def make(into: Path) -> Mapping[str, Any]:
        with seldom_collected():
            read = mix.load(given, seed, hub, places, usual=FORMATS[reading.rows])
        return _make(into, tokenizer, read, own, processes, progress)

    held, cached = cache.kept(name, make)
    about = json.loads((held / cache.ABOUT).read_text(encoding="utf-8"))
    lost = tuple(dropped.read(held / LOST))
    if folder is not None:
        dropped.write(folder, lost)
    dropped.refuse_many(lost, about["rows"], max_dropped)
    train, validation = (store.Stored(held / file) for file in (TRAIN, VALIDATION))
    if gated and not (held / GATED).exists():
        for part in (train, validation):
            gate.check(part, tokenizer)
        _remember(held / GATED)
    made = tuple(Encodings(part, part.rows) for part in (train, validation))
    return Prepared(made[0], made[1], lost, tuple(about["report"]), cached, held)


def _remember(mark: Path) -> None:
    try:
        mark.touch()
    except OSError:
        return  # a cache that may only be read: the gate looks again next time


def _decides(tokenizer: Any, given: Mix, reading: Reading, seed: int, hub: str) -> dict[str, Any]:
    """All that decides a token or a label."""
    entries = [*given.datasets, *given.validation.datasets]
    names = [reading.loss_scale, *(entry.loss_scale for entry in entries if isinstance(entry, Dataset))]
    formats = registry.names("formats", reading.places)
    template = reading.template
    return {
        "mix": schema.plain(given),
        "data": [_content(entry, reading.places, hub) for entry in entries],
        "seed": seed,
        "tokenizer": _tokenizer(tokenizer),
        "template": [template.system, template.empty_think, template.turns],
        "rules": [(schema.plain(each), rules.sources(each, reading.places)) for each in names if each is not None],
        "formats": [source_digest(file) for file in formats.values() if file.parent != PACKAGE / "formats"],
        "length": [reading.max_length, reading.overlong],
        "rows": reading.rows,
    }


def _content(entry: str | Dataset, places: Sequence[Path], hub: str) -> list[Any]:
    source = fetch(parse(entry, places, hub))
    return [repr(source.known), source.id, [(source.told(file), content.file_digest(file)) for file in source.files]]


def _tokenizer(tokenizer: Any) -> list[str]:
    """The tokenizer's rules and words, its special tokens, its template, and the day where the template asks for it."""
    backend = tokenizer.backend_tokenizer.to_str() if tokenizer.is_fast else repr(tokenizer)
    held = repr((tokenizer.chat_template, tokenizer.special_tokens_map))
    day = ""
    if tokenizer.chat_template and "strftime_now" in template_text(tokenizer):
        import datetime

        day = datetime.date.today().isoformat()
    return [content.digest(backend.encode()), content.digest(held.encode()), day]


def _make(
    into: Path, tokenizer: Any, read: mix.Mixed, reading: Reading, processes: int, progress: Progress
) -> Mapping[str, Any]:
    """Encode a mix into a folder; what it returns is for people, and for the next start."""
    readings = [
        replace(
            reading,
            template=replace(reading.template, turns=part.spec.turns or reading.template.turns),
            loss_scale=reading.loss_scale if part.spec.loss_scale is None else part.spec.loss_scale,
        )
        for part in read.parts
    ]
    lost, notes = list(read.dropped), Counter[str]()
    total = len(read.train) + len(read.validation)
    done = 0
    for file, examples in ((TRAIN, read.train), (VALIDATION, read.validation)):
        begun = done

        def told(made: Piece, rows: int, begun: int = begun) -> None:
            lost.extend(made.dropped)
            notes.update(made.notes)
            progress(begun + rows, total)

        store.write(into / file, _watched(pieces(tokenizer, readings, examples, processes), told))
        done += len(examples)
    lost = list(dict.fromkeys(lost))
    dropped.write(into, lost)
    train, validation = (store.Stored(into / file) for file in (TRAIN, VALIDATION))
    rows = {place for part in (read.train, read.validation) for place, _ in part.placed()}
    return {
        "datasets": [part.name for part in read.parts],
        "rows": len(rows) + len(read.dropped),
        "sequences": len(train) + len(validation),
        "tokens": sum(train.lengths) + sum(validation.lengths),
        "tokenizer": tokenizer.name_or_path,
        "report": _report(read, train, validation, lost, notes),
    }


def _watched(made: Iterator[Piece], told: Callable[[Piece, int], None]) -> Iterator[Any]:
    done = 0
    for piece in made:
        done += piece.rows
        told(piece, done)
        yield piece.sequences


def _report(
    read: mix.Mixed,
    train: store.Stored,
    validation: store.Stored,
    lost: Sequence[dropped.Dropped],
    notes: Counter[str],
) -> list[str]:
    """Shares of the mix by rows and by trained tokens, what was lost, and what the rows show."""
    part_of = read.train.parts
    kept, tokens = Counter(part_of[row] for row in set(train.rows)), Counter[int]()
    for count, row in zip(train.trained(), train.rows, strict=True):
        tokens[part_of[row]] += count
    told = [
        f"{part.name}: {kept[i]} rows ({_share(kept, i)}), {tokens[i]:,} trained tokens ({_share(tokens, i)})"
        for i, part in enumerate(read.parts)
        if part.train
    ]
    if len(validation):
        told.append(f"validation: {len(set(validation.rows))} rows")
    told += [f"dropped: {count} rows, {reason}" for reason, count in dropped.by_reason(lost).items()]
    return [*told, *read.told, *(f"{count:,} {note}" for note, count in notes.items())]


def _share(counts: Mapping[int, int], key: int) -> str:
    return f"{counts.get(key, 0) / (sum(counts.values()) or 1):.0%}"
