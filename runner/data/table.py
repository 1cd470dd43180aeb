"""The rows of one dataset and what each of them means: filled in, edited by the subset, renamed, read by a format.

Columns are only ever added: every column of a row reaches the rewards. Refuses a dataset without rows, a placeholder
that is left over, and columns that could mean two things.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from runner.core.errors import ConfigError, DataError, PluginError, RunnerError, near_miss
from runner.core.specs import Dataset
from runner.core.types import Example
from runner.data import choose_format, on_disk, row_filter, variables
from runner.data.dropped import Dropped
from runner.data.hub import fetch
from runner.data.read import Row
from runner.data.sources import Source, parse
from runner.formats._row import QUERY, RESPONSE, SYSTEM, BadRow, Unclear

# Columns of ms-swift's and LLaMA-Factory's, and what stands for them in a text: learned as it is, it would be nonsense.
MEDIA = {"images": "<image>", "videos": "<video>", "audios": "<audio>"}


@dataclass
class Table:
    """The rows of one dataset, and how they are read. format: the name of the format of its first row.

    usual: the format where neither the recipe nor the dataset says one; None: each row's columns choose.
    """

    source: Source
    rows: Sequence[Row]
    places: Sequence[Path]
    values: variables.Values
    format: str = ""
    usual: str | None = None
    _formats: dict[str, choose_format.Format] = field(default_factory=dict)

    @staticmethod
    def read(
        entry: str | Dataset, places: Sequence[Path], hub: str, key: str, values: variables.Values,
        usual: str | None = None,
    ) -> "Table":  # fmt: skip
        """Read a dataset's files, without the rows that its filter leaves out."""
        source = fetch(parse(entry, places, hub, key))
        passes = row_filter.compiled(source.spec.filter, f"{key}.filter") if source.spec.filter else None
        files = ((file, source.told(file)) for file in source.files)
        held, count, there = on_disk.held(files, lambda row: passes is None or passes(row.values, row.place))
        if not count:
            raise DataError(f"{source.spec.dataset}: holds no rows.")
        if not held:
            raise DataError(f"{source.spec.dataset}: none of its {count} rows passes the filter {source.spec.filter}.")
        made = Table(source, held, places, values, usual=usual)
        made._check_columns(there)
        return made

    @property
    def columns(self) -> dict[str, str]:
        """Old name -> new name."""
        return {**(self.source.known.columns if self.source.known else {}), **self.source.spec.columns}

    def _check_columns(self, there: set[Any]) -> None:
        for old in self.columns:
            if old not in there:
                hint = near_miss(old, map(str, there))
                raise ConfigError(
                    f"{self.source.key}.columns.{old}", f"{self.source.spec.dataset} has no such column", hint
                )

    def example(self, index: int, part: int) -> Example | Dropped:
        """What a row means, or why it means nothing.

        Raises:
            DataError: a placeholder is left over, or the columns could mean two things.
        """
        row = self.rows[index]
        try:
            seen = self._edited(variables.fill(row, self.values))
            name = self.source.spec.format or (self.source.known and self.source.known.format)
            name = name or self.usual or choose_format.named(self._view(seen), row.place)
            self.format = self.format or name
            if name not in self._formats:
                self._formats[name] = choose_format.load(name, self.places)
            made = self._read_by(name, row, seen)
        except BadRow as error:
            return Dropped(row.file, row.number, error.reason, error.detail)
        except Unclear as error:
            raise DataError(f"{row.place}: {error}") from None
        texts = [*(message.content for message in (*made.messages, *made.rejected)), made.text or ""]
        for name, tag in MEDIA.items():
            if seen.get(name) and any(tag in text for text in texts):
                return Dropped(row.file, row.number, f"it has {name}, and only text is read", f"{tag} in its text")
        placeholder = variables.left_over(texts, self.values)
        if placeholder is not None:
            raise variables.refuse(row, placeholder)
        return replace(made, source=row.file, row=row.number, part=part, columns={**self._renamed(seen), **seen})

    def _read_by(self, name: str, row: Row, seen: Mapping[str, Any]) -> Example:
        """What a format, maybe one of the user's, makes of a row."""
        try:
            made = self._formats[name](self._view(seen))
        except (BadRow, Unclear):
            raise
        except DataError as error:  # the way for a format of the user's to refuse a row
            raise BadRow(str(error)) from None
        except RunnerError:
            raise
        except (Exception, SystemExit) as error:  # a plugin may raise anything
            told = f"{type(error).__name__}: {error}"
            raise PluginError(f"{row.place}: the format {name} failed on it: {told}.") from error
        if not isinstance(made, Example):
            raise PluginError(f"{row.place}: the format {name} returned {type(made).__name__} instead of an Example.")
        return made

    def _edited(self, row: dict[str, Any]) -> dict[str, Any]:
        """The columns with what the subset puts around them."""
        subset = self.source.subset
        for edits in (subset.remove_prefix, subset.prepend, subset.append):
            for column, text in edits.items():
                if not isinstance(row.get(column), str):
                    raise BadRow(f"the subset changes the column {column}, which is no text")
                old = row[column]
                new = old.removeprefix(text) if edits is subset.remove_prefix else text + old
                row = {**row, column: old + text if edits is subset.append else new}
        return row

    def _renamed(self, row: Mapping[str, Any]) -> dict[str, Any]:
        return {new: row[old] for old, new in self.columns.items() if old in row}

    def _view(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """What the format sees: a column that was given a role stands for all that could have it."""
        given = self._renamed(row)
        hidden = {name for role in (QUERY, RESPONSE, SYSTEM) if set(role) & set(given) for name in role}
        return {**{name: value for name, value in row.items() if name not in hidden}, **given}
