"""The identity of a model, not loaded: small files by content, weights by name, size and time, a hub id by its name.

A run or stage folder counts by what its stages made.
"""

from collections.abc import Iterator
from pathlib import Path

from runner.core import artifact
from runner.core.content import combined, file_digest
from runner.core.errors import ModelError
from runner.core.places import expanded
from runner.models.facts import facts
from runner.models.locate import ADAPTER, is_adapter
from runner.models.package import MARK, packaged_file

WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt", ".pth")
SMALL = (".json", ".jinja", ".model", ".txt", ".tiktoken", ".py")


def identity(name: str, revision: str | None) -> str:
    """A digest of a local folder or file, or of a packaged one; `hub` with the revision for a hub id."""
    if name.startswith(MARK):
        return _packaged(name)
    folder = expanded(name)
    if folder.is_dir():
        return combined(_parts(folder))
    if folder.is_file():
        return combined([_weights(folder)])
    return f"hub {revision}" if revision else "hub"


def base(name: str) -> str | None:
    """The base that the adapter in a folder names, where it lies on this machine and so may change."""
    folder = expanded(name)
    if not is_adapter(folder):
        return None
    told = facts(folder / ADAPTER).get("base_model_name_or_path")
    return told if isinstance(told, str) and expanded(told).exists() else None


def _packaged(name: str) -> str:
    try:
        place = packaged_file(name)
    except ModelError:
        return "not installed"
    return combined(_parts(place)) if place.is_dir() else f"{place.stat().st_size} bytes"


def _parts(folder: Path) -> Iterator[tuple[str, str]]:
    for made in [folder, *sorted(child for child in folder.iterdir() if child.is_dir())]:
        done = artifact.read(made)
        if done is not None:
            yield f"{made.name}/artifact", done.fingerprint
    if artifact.read(folder) is not None or (folder / "plan.json").is_file():
        return
    for file in sorted(child for child in folder.iterdir() if child.is_file() and not child.name.startswith(".")):
        if file.suffix in WEIGHTS:
            yield _weights(file)
        elif file.suffix in SMALL:
            yield file.name, file_digest(file)


def _weights(file: Path) -> tuple[str, str]:
    return file.name, f"{file.stat().st_size} {file.stat().st_mtime_ns}"
