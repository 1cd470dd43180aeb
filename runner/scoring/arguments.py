"""What a reward function is called with: columns as lists beside the completions, parameters from YAML.

A row that lacks a column which the function needs is not scored. Refuses a column that no row has, and, when planning,
an unknown reward, an unknown parameter and a column that the data is known to lack.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from runner.core import registry
from runner.core.errors import ConfigError, PluginError, near_miss
from runner.core.registry import Signature
from runner.core.specs import Reward
from runner.data.carried import LEFT_OUT

RESERVED = ("prompts", "messages", "completion_ids", "finish_reason")
GIVEN = ("id", "reference")  # of every row: its id and its own last answer, if it has one
RESPONSE = "response"  # the model's answer, in a line of answers


def check(
    rewards: Mapping[str, Reward], roots: Sequence[Path], key: str = "reward", columns: Collection[str] | None = None
) -> None:
    """Refuse what could only fail later.

    Args:
        columns: the columns of the data, where they are known.

    Raises:
        ConfigError: an unknown reward, an unknown parameter, a missing column, or one that is no column of the data's.
        PluginError: a file that is not Python.
    """
    for name, reward in rewards.items():
        wanted = registry.signature("rewards", name, roots, f"{key}.{name}")
        registry.check_params("rewards", name, dict(reward.params), roots, f"{key}.{name}.params")
        for column in wanted.columns:
            if column == RESPONSE:  # an answer compared with itself is always right
                raise ConfigError(
                    f"{key}.{name}", "asks for 'response', which is the answer that the model gave",
                    "Ask for 'reference', the row's own last answer.",
                )  # fmt: skip
            if columns is not None and column not in (*RESERVED, *GIVEN) and column not in columns:
                fix = f"{near_miss(column, columns)} In a dataset, columns: {{NAME: {column}}} renames one.".strip()
                raise ConfigError(f"{key}.{name}", f"needs the column {column!r}, which the data does not have", fix)


def columns_of(rows: Iterable[Mapping[str, Any]]) -> set[str]:
    """The columns in which any row has a value."""
    return {name for row in rows for name, value in row.items() if value is not None}


def keywords(rows: Sequence[Mapping[str, Any]], **reserved: Sequence[Any]) -> dict[str, list[Any]]:
    """Every column of the rows as a list, None where a row lacks it, and the reserved words over them.

    Args:
        rows: each row's extra columns. reserved: those of RESERVED that there are, one value a row.
    """
    names = dict.fromkeys(name for row in rows for name in row)
    return {**{name: [row.get(name) for row in rows] for name in names}, **{n: list(v) for n, v in reserved.items()}}


def scorable(
    wanted: Signature, given: Mapping[str, Sequence[Any]], count: int, elsewhere: Collection[str] = ()
) -> list[int]:
    """The rows that have all columns which the function needs.

    Args:
        elsewhere: columns that other rows have, which these may all lack.

    Raises:
        PluginError: a column that no row has.
    """
    for name in wanted.columns:
        if name not in elsewhere and all(value is None for value in given.get(name, ())):
            known = sorted(set(given) - {*RESERVED, name})  # all of its values may be null
            if any(name in (names or ()) for names in given.get(LEFT_OUT, ())):
                raise PluginError(
                    f"reward {wanted.name}: needs the column {name!r}, which these answers do not carry, as it was too "
                    f"wide or no JSON (see {LEFT_OUT}). Write it into their lines."
                )
            raise PluginError(
                f"reward {wanted.name}: needs the column {name!r}, which no row has. "
                f"{near_miss(name, known) or 'Columns: ' + ', '.join(known) + '.'}"
            )
    lacking = [None] * count
    held = [given.get(name, lacking) for name in wanted.columns]
    return [row for row in range(count) if all(values[row] is not None for values in held)]


def arguments(
    wanted: Signature, given: Mapping[str, Sequence[Any]], rows: Sequence[int], params: Mapping[str, Any]
) -> dict[str, Any]:
    """The keywords of one call for these rows."""
    taken = {name for name, _ in wanted.params}
    names = [name for name in given if name not in taken] if wanted.takes_all_columns else wanted.columns
    return {**{name: [given[name][row] for row in rows] for name in names}, **params}
