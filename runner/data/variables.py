"""Template variables: `{{NAME}}` in any text of any dataset becomes what the recipe says, by the row's language or not.

Refuses rows in which a placeholder is left over, because a model would learn to say `{{NAME}}`.
"""

import re
from collections.abc import Mapping
from typing import Any

from runner.core.errors import ConfigError, DataError
from runner.data.read import Row

Values = Mapping[str, str | list[str] | dict[str, str]]
PLACEHOLDER = re.compile(r"\{\{ ?(\w+) ?\}\}")
MATHEMATICS = re.compile(r"(\\[A-Za-z]+|[\^_}])$")
IDENTITY = {"name", "author"}  # of self-cognition data that writes its placeholders small
LANGUAGE_COLUMNS = ("tag", "lang", "language")
LANGUAGES = ("zh", "en")  # the order of two values in a list


def fill(row: Row, values: Values) -> dict[str, Any]:
    """The row's columns with every variable filled in.

    Raises:
        DataError: the row's language is not among a variable's.
    """
    if not values:
        return row.values
    made: dict[str, Any] = _filled(row.values, row, {name.lower(): value for name, value in values.items()})
    return made


def _filled(value: Any, row: Row, values: Values) -> Any:
    if isinstance(value, str):
        return PLACEHOLDER.sub(lambda found: _value(found, row, values), value) if "{{" in value else value
    if isinstance(value, dict):
        return {key: _filled(item, row, values) for key, item in value.items()}
    return [_filled(item, row, values) for item in value] if isinstance(value, list) else value


def _value(found: re.Match[str], row: Row, values: Values) -> str:
    name = found.group(1)
    said = values.get(name.lower())
    if said is None:
        return found.group()
    if isinstance(said, str):
        return said
    if isinstance(said, list):
        if len(said) == 1:
            return said[0]
        said = dict(zip(LANGUAGES, said, strict=False))
    language = next((str(row.values[column]) for column in LANGUAGE_COLUMNS if row.values.get(column)), None)
    if language in said:
        return said[language]
    if "default" in said:
        return said["default"]
    told = (
        f"{language!r} as its language" if language else f"no column for its language ({', '.join(LANGUAGE_COLUMNS)})"
    )
    raise DataError(f"{row.place}: {{{{{name}}}}} has values for {', '.join(said)}, and the row has {told}.")


def check(values: Values, key: str = "mix.variables") -> None:
    """Refuse values that cannot be told apart.

    Raises:
        ConfigError: an empty list, more than two values in a list, or two names that differ in case alone.
    """
    for name, value in values.items():
        if isinstance(value, list) and not 1 <= len(value) <= len(LANGUAGES):
            raise ConfigError(
                f"{key}.{name}", f"{len(value)} values", "One, or two: Chinese and English. More as {zh: …, en: …}."
            )
        if isinstance(value, dict) and not value:
            raise ConfigError(f"{key}.{name}", "no value for any language", "Form: {zh: …, en: …}.")
        if sum(other.lower() == name.lower() for other in values) > 1:
            raise ConfigError(f"{key}.{name}", "there twice, in large and small letters", "Keep one.")


def left_over(value: Any, values: Values = {}) -> str | None:  # noqa: B006 - read only
    """The first placeholder in the texts of a value that no variable fills; those that variables gave do not count."""
    if isinstance(value, str):
        if "{{" not in value:
            return None
        given = "\n".join(str(said) for said in values.values())
        found = (match for match in PLACEHOLDER.finditer(value) if match.group() not in given)
        return next((match.group() for match in found if _suspicious(match)), None)
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return next((held for held in (left_over(item, values) for item in inside) if held), None)


def _suspicious(found: re.Match[str]) -> bool:
    """Whether it looks like a placeholder, not like mathematics (`\\overline{{AB}}`) or another template language."""
    word, before = found.group(1), found.string[max(0, found.start() - 20) : found.start()]
    return (len(word) > 1 and word.isupper() and MATHEMATICS.search(before) is None) or word.lower() in IDENTITY


def refuse(row: Row, placeholder: str) -> DataError:
    """The sentence for a row with a placeholder left over."""
    name = placeholder.strip("{} ")
    return DataError(
        f"{row.place}: {placeholder} is left over. Give it a value: mix.variables.{name}=… "
        f"(or mix.variables.{name}='{placeholder}' where the text means it)."
    )
