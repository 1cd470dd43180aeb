"""The mix of a recipe as examples: read, drawn, understood, with every lost row accounted for.

Validation rows are drawn before rows are copied, so none of them is trained on. Refuses entries
that contradict each other, and a validation that the mix cannot spare.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from runner.core.errors import ConfigError, DataError
from runner.core.specs import Dataset, Mix
from runner.core.types import Example
from runner.data import choose_format, draw, duplicates, row_filter, rules, variables
from runner.data.dropped import Dropped
from runner.data.examples import Examples
from runner.data.on_disk import OnDisk
from runner.data.sources import parse
from runner.data.table import Table


@dataclass(frozen=True)
class Part:
    """One dataset as it was used. rows: those it has; train, validation: those taken, copies included."""

    name: str
    spec: Dataset
    format: str
    rows: int
    train: int
    validation: int


@dataclass(frozen=True)
class Mixed:
    """A mix, read. `Example.part` counts through parts; those of `validation.datasets` come last.

    told: sentences about rows that mean the same.
    """

    train: Examples
    validation: Examples
    dropped: list[Dropped] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    told: list[str] = field(default_factory=list)


def check(mix: Mix, places: Sequence[Path], hub: str, key: str = "mix") -> None:
    """At plan time, without reading rows: each dataset is there or a hub's, formats, rules and filters exist.

    Raises:
        ConfigError: what is wrong with which entry. DataError: a dataset whose files are empty.
    """
    if not mix.datasets:
        raise ConfigError(f"{key}.datasets", "empty", "Give files, folders or hub ids: mix.datasets=[my.jsonl].")
    variables.check(mix.variables, f"{key}.variables")
    if mix.validation.fraction and mix.validation.rows:
        raise ConfigError(f"{key}.validation", "says both fraction and rows", "Say one of them.")
    for entries, where in ((mix.datasets, f"{key}.datasets"), (mix.validation.datasets, f"{key}.validation.datasets")):
        for number, entry in enumerate(entries):
            _check(entry, mix, places, hub, f"{where}.{number}")


def _check(entry: str | Dataset, mix: Mix, places: Sequence[Path], hub: str, key: str) -> None:
    source = parse(entry, places, hub, key)
    spec = source.spec
    if source.files and not any(file.stat().st_size for file in source.files):
        raise DataError(f"{spec.dataset}: holds no rows.")
    if spec.format:
        choose_format.load(spec.format, places, f"{key}.format")
    if spec.loss_scale is not None:
        rules.check(spec.loss_scale, places, f"{key}.loss_scale")
    if spec.filter:
        row_filter.compiled(spec.filter, f"{key}.filter")
    if spec.weight is not None and not mix.interleave:
        raise ConfigError(
            f"{key}.weight",
            f"{spec.weight} means nothing while rows are taken as they are",
            "Say mix.interleave: true.",
        )


def load(mix: Mix, seed: int, hub: str, places: Sequence[Path], key: str = "mix", usual: str | None = None) -> Mixed:
    """Read the mix.

    Args:
        seed: of the run; each dataset draws from a seed of its own made of it.
        hub: where ids are looked up. places: search roots for files, plugins and known datasets.
        usual: the format where nobody says one; None: the columns choose.

    Raises:
        ConfigError, DataError: what is wrong, with the file and the line or row.
    """
    check(mix, places, hub, key)
    tables = [
        Table.read(entry, places, hub, f"{key}.datasets.{i}", mix.variables, usual)
        for i, entry in enumerate(mix.datasets)
    ]
    sizes = _sizes(mix, tables)
    unique = [min(size, len(table.rows)) for size, table in zip(sizes, tables, strict=True)]
    wanted = (
        mix.validation.rows or round(sum(unique) * mix.validation.fraction) or (1 if mix.validation.fraction else 0)
    )
    aside = draw.shares(unique, wanted) if wanted else [0] * len(tables)
    if sum(aside) < wanted:
        raise ConfigError(
            f"{key}.validation",
            f"{wanted} rows are more than the mix can spare",
            f"It has {sum(unique)} different rows.",
        )
    shared: tuple[list[Table], list[Mapping[int, Example]]] = ([], [])
    made = Mixed(Examples(*shared), Examples(*shared))
    for number, (table, take, apart) in enumerate(zip(tables, sizes, aside, strict=True)):
        before = sum(other.source.name == table.source.name for other in tables[:number])
        drawn = draw.draw(len(table.rows), take, apart, f"{seed}:{table.source.name}:{before}")
        _use(made, table, number, drawn)
    _own_validation(made, mix, seed, hub, places, key, usual)
    found = duplicates.look(made.train.placed(), set(made.validation.marks), mix.duplicates)
    train = made.train.without(found.gone) if found.gone else made.train
    return replace(made, train=train, dropped=[*made.dropped, *found.dropped], told=found.told)


def _sizes(mix: Mix, tables: Sequence[Table]) -> list[int]:
    """Rows of each dataset, copies and those for validation included."""
    taken = [table.source.spec.take or len(table.rows) for table in tables]
    if not mix.interleave:
        return taken
    return draw.by_weight(
        taken, [table.source.spec.weight or float(size) for table, size in zip(tables, taken, strict=True)]
    )


def _own_validation(
    made: Mixed, mix: Mix, seed: int, hub: str, places: Sequence[Path], key: str, usual: str | None
) -> None:
    for number, entry in enumerate(mix.validation.datasets):
        where = f"{key}.validation.datasets.{number}"
        table = Table.read(entry, places, hub, where, mix.variables, usual)
        take = table.source.spec.take or len(table.rows)
        if take > len(table.rows):
            raise ConfigError(
                where, f"{take} rows are more than it has ({len(table.rows)})", "Evaluating a row twice tells nothing."
            )
        drawn = draw.draw(len(table.rows), take, 0, f"{seed}:{table.source.name}:validation")
        _use(made, table, len(made.parts), draw.Drawn([], drawn.train))


def _use(made: Mixed, table: Table, number: int, drawn: draw.Drawn) -> None:
    """Add the drawn rows of a dataset to the mix."""
    known: dict[int, Example] = {}
    marks: dict[int, bytes] = {}
    for row in sorted({*drawn.train, *drawn.validation}):
        outcome = table.example(row, number)
        if isinstance(outcome, Dropped):
            made.dropped.append(outcome)
            continue
        marks[row] = duplicates.meaning(outcome)
        if not isinstance(table.rows, OnDisk):
            known[row] = outcome
    made.train.tables.append(table)  # the same lists for validation
    made.train.known.append(known)
    made.train.add(number, drawn.train, marks)
    made.validation.add(number, drawn.validation, marks)
    source = table.source
    made.parts.append(
        Part(source.name, source.spec, table.format, len(table.rows), len(drawn.train), len(drawn.validation))
    )
