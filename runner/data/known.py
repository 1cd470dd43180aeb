"""The datasets of conf/dataset: known by their own name, by their hubs' ids, and by the name of a folder or file."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import yaml

from runner.core.places import package_root
from runner.core.schema import build
from runner.core.specs import KnownDataset


def known_datasets(places: Sequence[Path]) -> dict[str, KnownDataset]:
    """The entries by name, a user's in front of the shipped ones.

    Raises:
        ConfigError: an entry has a key that means nothing.
    """
    found: dict[str, KnownDataset] = {}
    for root in dict.fromkeys((*places, package_root())):
        for file in sorted((root / "conf" / "dataset").glob("*.yaml")):
            if file.stem not in found:
                found[file.stem] = _entry(file, file.stat().st_mtime_ns)
    return found


@cache
def _entry(file: Path, changed: int) -> KnownDataset:
    return build(KnownDataset, yaml.safe_load(file.read_text(encoding="utf-8")) or {}, str(file))


def known_as(place: Path, places: Sequence[Path]) -> KnownDataset | None:
    """The dataset that a folder or file is named for: /data/self-cognition, its file x.jsonl, self_cognition.jsonl."""
    titles = {_title(place.name), _title(place.name.split(".")[0])}
    if place.is_file():
        titles.add(_title(place.absolute().parent.name))
    for name, entry in known_datasets(places).items():
        ids = [id.rpartition("/")[2] for id in (entry.modelscope, entry.huggingface) if id]
        if titles & {_title(own) for own in (name, *ids)}:
            return entry
    return None


def _title(name: str) -> str:
    return name.lower().replace("_", "-")
