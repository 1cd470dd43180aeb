"""Which files of a dataset's folder are meant: those of its subset and split, in the layouts of the hubs.

A subset is a configuration that the folder's README.md declares, or a folder inside. A split is a word in the names of
files. Refuses a folder without data, and a subset or split that it does not have.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from runner.core.errors import ConfigError, near_miss

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet", ".arrow")
SPLITS = ("train", "validation", "valid", "val", "dev", "test")
ABOUT = {"dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json", "config.json", "artifact.json"}


def files(place: Path, subset: str | None, split: str | None, key: str) -> tuple[Path, ...]:
    """The data files of a folder.

    Raises:
        ConfigError: there are none, or none of that subset or split.
    """
    declared = _declared(place)
    if subset is None and len(declared) > 1:
        subset = next((name for name, config in declared.items() if name == "default" or config.get("default")), None)
        if subset is None:
            raise ConfigError(
                key, f"{place} has several subsets", f"Say which: {place}:NAME with {', '.join(declared)}."
            )
    if subset in declared or (subset is None and declared):
        config = declared[subset or next(iter(declared))]
        return _of_config(place, config, split, key)
    inside = [each.name for each in sorted(place.iterdir()) if each.is_dir() and data_files(each)]
    if subset is not None and subset not in inside:
        raise ConfigError(key, f"{place} has no subset {subset!r}", near_miss(subset, [*declared, *inside]))
    top = place / subset if subset else place
    found = data_files(top)
    if not found:
        raise ConfigError(key, f"{top} holds no data", f"Files end in {', '.join(SUFFIXES)}, or these with .gz.")
    return _of_split({file: split_of(file.relative_to(top)) for file in found}, top, split, key)


def _declared(place: Path) -> dict[str, dict[str, Any]]:
    """The configurations in the head of README.md, as Hugging Face writes them."""
    readme = place / "README.md"
    parts = readme.read_text(encoding="utf-8").split("---", 2) if readme.is_file() else []
    if len(parts) < 3 or parts[0].strip():
        return {}
    try:
        head = yaml.safe_load(parts[1])
    except yaml.YAMLError:
        return {}  # a head that does not parse declares nothing; the files themselves are looked at
    configs = head.get("configs") if isinstance(head, dict) else None
    listed = [config for config in configs or [] if isinstance(config, dict) and config.get("data_files")]
    return {str(config.get("config_name", "default")): config for config in listed}


def _of_config(place: Path, config: dict[str, Any], split: str | None, key: str) -> tuple[Path, ...]:
    said = config["data_files"]
    entries = said if isinstance(said, list) else [said]
    splits: dict[Path, str | None] = {}
    for entry in entries:
        paths = entry.get("path", []) if isinstance(entry, dict) else entry
        for pattern in paths if isinstance(paths, list) else [paths]:
            for file in sorted(place.glob(str(pattern))):
                own = entry.get("split") if isinstance(entry, dict) else split_of(file.relative_to(place))
                splits[file] = own
    return _of_split(splits, place, split, key)


def _of_split(splits: dict[Path, str | None], top: Path, split: str | None, key: str) -> tuple[Path, ...]:
    """The files of a split: `train` where files are named for splits and none is asked for, else all."""
    held = sorted({name for name in splits.values() if name})
    wanted = split or ("train" if held else None)
    chosen = tuple(file for file, name in splits.items() if wanted is None or name == wanted)
    if not chosen:
        fix = f"Splits: {', '.join(held)}. Say split: NAME." if held else "Its files are named for no split."
        raise ConfigError(key, f"{top} has no split {wanted!r}", fix)
    return chosen


def split_of(file: Path) -> str | None:
    """The split that a file's name, or a folder in it, tells."""
    words = re.split(r"[/\\._-]", str(file).lower())
    return next((name for name in SPLITS if name in words), None)


def data_files(top: Path) -> Sequence[Path]:
    """All data files below a folder, hidden ones and descriptions left out, in the order of their names."""
    return tuple(file for file in sorted(top.rglob("*")) if _is_data(file, top))


def _is_data(file: Path, top: Path) -> bool:
    hidden = any(part.startswith((".", "_")) for part in file.relative_to(top).parts)
    return not hidden and readable(file) and file.name not in ABOUT and file.is_file()


def readable(file: Path) -> bool:
    """Whether a file's name ends like data."""
    return file.name.removesuffix(".gz").endswith(SUFFIXES)
