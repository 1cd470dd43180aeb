"""Reads completions.jsonl again: rows, what was asked in them, and where a run, a stage or a path keeps the file."""

import json
from pathlib import Path
from typing import Any

from runner.core import artifact
from runner.core.errors import ConfigError, DataError
from runner.core.specs import Dataset

FILE = "completions.jsonl"
OTHERS = {".json", ".csv", ".parquet", ".arrow", ".gz"}


def read(file: Path) -> list[dict[str, Any]]:
    """The rows of a completions file.

    Raises:
        DataError: no such file, or a line that is not JSON.
    """
    if not file.is_file():
        raise DataError(f"{file}: not found. Give a completions file, or the folder of a stage that made one.")
    rows = []
    with open(file, encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            try:
                rows.append(json.loads(line))
            except ValueError:
                raise DataError(f"{file}:{number}: is not JSON. Mend or remove the line.") from None
    return rows


def check_place(name: str, key: str) -> None:
    """Refuse a place for answers that no file can be at, and a name under which JSON Lines are read as something else.

    Raises:
        ConfigError: with the key.
    """
    try:
        place = Path(name).expanduser().resolve()
    except RuntimeError as error:  # links in a circle, ~ of a user who is not there
        raise ConfigError(key, f"{name} is no place for a file ({error})", "Name another.") from None
    if place.is_dir():
        raise ConfigError(key, f"{name} is a folder", f"Name a file in it: {Path(name) / FILE}.")
    if place.exists() and not place.is_file():
        raise ConfigError(key, f"{name} is a device or a pipe", "Answers are read again: name a file.")
    if place.suffix in OTHERS:
        fix = f"Name it {Path(name).with_suffix('').with_suffix('.jsonl')}."
        raise ConfigError(key, f"answers are written as JSON Lines, and {name} would be read as something else", fix)


def located(name: str) -> Path:
    """The completions file that a path or a stage's folder means."""
    place = Path(name).expanduser()
    made = artifact.read(place) if place.is_dir() else None
    if made is not None and made.kind == "completions":
        return Path(made.path)
    return place / FILE if place.is_dir() else place


def question_of(row: dict[str, Any]) -> str:
    """What was asked last in a row."""
    messages = [message for message in row["messages"] if isinstance(message, dict)]  # rows of others come here too
    asked = [message.get("content") for message in messages if message.get("role") == "user"]
    return str(asked[-1] or "") if asked else ""


def name_of(entry: str | Dataset) -> str:
    """The file, folder or hub id of a dataset entry."""
    return (entry if isinstance(entry, str) else entry.dataset).split("#")[0]
