"""The identity of a dataset: the content of its local files, or the name of a hub's."""

from collections.abc import Sequence
from pathlib import Path

from runner.core.content import file_digest, folder_digest
from runner.core.specs import Dataset

ENCODER = 1  # raise it when the same row becomes other tokens, labels or weights than before


def identity(entry: str | Dataset, places: Sequence[Path]) -> str:
    """A digest of the local file or folder; `hub` for what lies on a hub, whose keys say the rest."""
    place = local(entry if isinstance(entry, str) else entry.dataset, places)
    if place is None:
        return "hub"
    return file_digest(place) if place.is_file() else folder_digest(place)


def local(name: str, places: Sequence[Path]) -> Path | None:
    """The file or folder that a dataset's name means: from the working directory, then from the search roots."""
    plain = name.split("#")[0]
    for base in (Path.cwd(), *places):
        for candidate in (plain, plain.rpartition(":")[0]):
            if candidate and (base / candidate).exists():
                return base / candidate
    return None
