"""What the small JSON files of a model's folder say; a damaged one is told by its name."""

import json
from pathlib import Path
from typing import Any

from runner.core.errors import ModelError


def facts(file: Path) -> dict[str, Any]:
    """The keys of config.json, adapter_config.json and the like.

    Raises:
        ModelError: it is no JSON, or no object.
    """
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:  # UnicodeDecodeError is one
        raise ModelError(f"{file}: is no JSON: {error}. Copy or download it again.") from None
    if not isinstance(told, dict):
        raise ModelError(f"{file}: holds {type(told).__name__} where keys should be. Copy or download it again.")
    return told
