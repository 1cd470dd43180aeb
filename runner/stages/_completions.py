"""Reads completions.jsonl again: rows, what was asked in them, and where a run, a stage or a path keeps the file."""

import json
from pathlib import Path
from typing import Any

from runner.core import artifact
from runner.core.errors import ConfigError, DataError
from runner.core.specs import Dataset

FILE = "completions.jsonl"


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


def given(file: Path) -> list[dict[str, Any]]:
    """The rows of a file of answers that anybody made, each with messages, response and finish_reason.

    Raises:
        DataError: no such file, no row, or one without an answer.
    """
    from runner.data.read import rows

    if not file.is_file():
        raise DataError(f"{file}: not found. Give a completions file, or the folder of a stage that made one.")
    found = [_answer(row.values, row.place) for row in rows(file)]
    if not found:
        raise DataError(f"{file}: holds no row. There is nothing to score.")
    return found


def _answer(row: dict[str, Any], place: str) -> dict[str, Any]:
    messages = row.get("messages") if isinstance(row.get("messages"), list) else []
    assert messages is not None
    if not all(isinstance(message, dict) and {"role", "content"} <= message.keys() for message in messages):
        raise DataError(f"{place}: its messages are not all mappings with role and content. Mend or remove the row.")
    last = messages[-1] if messages else {}
    ended = last.get("role") == "assistant"
    response = row.get("response", last.get("content") if ended else None)
    if not isinstance(response, str):
        raise DataError(f"{place}: holds no answer. A row needs `response`, or messages that end with the assistant's.")
    whole = messages if ended else [*messages, {"role": "assistant", "content": response}]
    return {"finish_reason": "stop", **row, "messages": whole, "response": response}


def named(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with the id of their question as text: the row's number where a file of others has none."""
    ids = [number if row.get("id") is None else row["id"] for number, row in enumerate(rows)]
    return [{**row, "id": str(name)} for row, name in zip(rows, ids, strict=True)]


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
    if place.suffix != ".jsonl":
        fix = f"Name it {Path(name).with_suffix('').with_suffix('.jsonl')}."
        raise ConfigError(key, f"answers are written as JSON Lines, which a stage reads in no {Path(name).name}", fix)


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
