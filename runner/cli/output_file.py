"""The file of `--output`: a new one. What is there already may be data, or answers that took hours."""

import os
from pathlib import Path

from runner.core.errors import ConfigError


def refuse_present(file: Path | None) -> None:
    """Refuse a name under which nothing can be written, or under which something lies, before any work is done.

    Raises:
        ConfigError: with the name.
    """
    if file is None:
        return
    if file.is_dir():
        raise ConfigError("--output", f"{file} is a folder", f"Name a file in it: {file / 'rows.jsonl'}.")
    if os.path.lexists(file):
        raise ConfigError("--output", f"{file} is there already", "Name another file, or remove that one.")
    above = next(parent for parent in file.absolute().parents if os.path.lexists(parent))
    if not above.is_dir():
        raise ConfigError("--output", f"{file} lies below {above}, which is no folder", "Name a file in a folder.")
