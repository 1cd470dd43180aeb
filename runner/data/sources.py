"""The language of datasets: what `hf::id:subset#N`, a file, a folder or a glob means, and which files it names.

Light, so that planning can use it: nothing is downloaded and no row is read here. A name that exists as it is written
is that file or folder, whatever characters it holds; what exists nowhere is a hub's. A dataset of conf/dataset is known
by its own name, by its hubs' ids, and by the name of a folder or file that holds it. Refuses prefixes, subsets and
counts that mean nothing.
"""

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from runner.core import artifact
from runner.core.errors import ConfigError, near_miss
from runner.core.specs import STAGE, Dataset, KnownDataset, Subset
from runner.data import folders
from runner.data.known import known_as, known_datasets
from runner.models.hub import HUB_ID

HUBS = {"ms": "modelscope", "hf": "huggingface"}


@dataclass(frozen=True)
class Source:
    """One dataset of a mix, understood. place: a file or folder, or None for what a hub has under `id`.

    spec: the entry with its short form taken apart. known: its entry in conf/dataset, if it has one.
    key: of the recipe, for messages.
    """

    spec: Dataset
    place: Path | None
    files: tuple[Path, ...]
    hub: str | None = None
    id: str = ""
    known: KnownDataset | None = None
    key: str = "mix.datasets"

    @property
    def name(self) -> str:
        """The dataset without the count: what its random draws are seeded with."""
        subset = f":{self.spec.subset}" if self.spec.subset else ""
        return f"{self.id or self.spec.dataset}{subset}{f'/{self.spec.split}' if self.spec.split else ''}"

    @property
    def subset(self) -> Subset:
        """How the subset reads, nothing special for datasets that are not known."""
        name = self.spec.subset or "default"
        return self.known.subsets.get(name, Subset()) if self.known else Subset()

    def told(self, file: Path) -> str:
        """A file's name as the user knows it: below the id for what came from a hub."""
        return f"{self.id}/{file.relative_to(self.place)}" if self.hub and self.place else str(file)


def parse(
    entry: str | Dataset, places: Sequence[Path], hub: str | None = "modelscope", key: str = "mix.datasets"
) -> Source:
    """Understand one entry of a mix.

    Args:
        places: search roots, after the working directory. hub: where ids are looked up unless the entry says it; None
            where only local files matter.

    Raises:
        ConfigError: an unknown prefix, count, subset or split, or nothing of that name.
    """
    spec = Dataset(dataset=entry) if isinstance(entry, str) else entry
    if not spec.dataset or (spec.dataset[0] == "#" and not _exists(spec.dataset, places)):
        raise ConfigError(key, "a dataset without a name", "Give a file, a folder, a glob or a hub id.")
    if spec.dataset.startswith(STAGE):  # what a stage will make: nothing of it is there while planning
        return Source(_counted(spec, key), None, (), key=key)
    prefix, mark, rest = spec.dataset.partition("::")
    if mark and not _exists(spec.dataset, places):
        if prefix.lower() not in HUBS:
            raise ConfigError(
                key,
                f"no hub {prefix!r} (value {spec.dataset!r})",
                "Write ms::id for ModelScope, hf::id for Hugging Face.",
            )
        return _on_hub(_split_up(replace(spec, dataset=rest), (), key), HUBS[prefix.lower()], places, key)
    spec = _split_up(spec, places, key)
    place = _exists(spec.dataset, places)
    if place is not None:
        return _local(spec, place, places, key)
    matches = _glob(spec.dataset, places)
    if matches and spec.split is not None:
        held = matches
        matches = tuple(file for file in held if folders.split_of(Path(file.parent.name, file.name)) == spec.split)
        if not matches:
            raise ConfigError(key, f"none of {len(held)} files of {spec.dataset} is of split {spec.split!r}")
    if matches:
        return Source(spec, None, matches, known=known_as(matches[0], places), key=key)
    return _on_hub(spec, hub, places, key)


def _exists(name: str, places: Sequence[Path]) -> Path | None:
    """A file or folder of exactly that name: from the working directory, then from the roots."""
    for base in (Path(), *places):
        if (base / name).exists():
            return base / name
    return None


def _glob(name: str, places: Sequence[Path]) -> tuple[Path, ...]:
    if not glob.has_magic(name):
        return ()
    for base in (Path(), *places):
        found = sorted(Path(match) for match in glob.glob(str(base / name), recursive=True))
        if found:
            files = (file for match in found for file in (folders.data_files(match) if match.is_dir() else [match]))
            return tuple(dict.fromkeys(files))
    return ()


def _counted(spec: Dataset, key: str) -> Dataset:
    """Take `#N` from the right."""
    name, mark, count = spec.dataset.rpartition("#")
    if not mark:
        return spec
    if not count.isdecimal() or int(count) == 0:
        raise ConfigError(key, f"{count!r} is no number of rows (value {spec.dataset!r})", "Form: name#500.")
    if spec.take is not None and spec.take != int(count):
        raise ConfigError(key, f"says both #{count} and take: {spec.take} (value {spec.dataset!r})", "Say it once.")
    return replace(spec, dataset=name, take=int(count))


def _split_up(spec: Dataset, places: Sequence[Path], key: str) -> Dataset:
    """Take `#N` from the right and `:subset` from the left, where no file is called so."""
    if _exists(spec.dataset, places):
        return spec
    spec = _counted(spec, key)
    if _exists(spec.dataset, places):
        return spec
    name, mark, subset = spec.dataset.partition(":")
    if not mark:
        return spec
    if not name or not subset or (spec.subset is not None and spec.subset != subset):
        raise ConfigError(key, f"no subset can be told from {spec.dataset!r}", "Form: name:subset#500.")
    return replace(spec, dataset=name, subset=subset)


def _local(spec: Dataset, place: Path, places: Sequence[Path], key: str) -> Source:
    known = known_as(place, places)
    if place.is_file():
        if not folders.readable(place):
            raise ConfigError(
                key, f"cannot read {place}", f"Files end in {', '.join(folders.SUFFIXES)}, or these with .gz."
            )
        if spec.subset and known is None:
            raise ConfigError(key, f"{place} is a file and has no subset {spec.subset!r}", "Leave the subset out.")
        _check_subset(spec, known, key)
        held = folders.split_of(Path(place.parent.name, place.name)) or "train"
        if spec.split not in (None, held):  # it would be read whole, under that name
            raise ConfigError(key, f"{place} is one file, not split {spec.split!r} of a dataset", "Leave split out.")
        return Source(spec, place, (place,), known=known, key=key)
    made = artifact.read(place)
    if made is not None:
        if made.kind != "completions":
            raise ConfigError(
                key, f"{place} holds {made.kind}, not rows", "Give a file, or a stage that makes completions."
            )
        return Source(spec, place, (place / made.path,), key=key)
    if known is not None:
        _check_subset(spec, known, key)
    return folder(Source(spec, place, (), known=known, key=key))


def folder(source: Source) -> Source:
    """The source with the files of its folder.

    Raises:
        ConfigError: the folder holds no data, or nothing of that subset or split.
    """
    assert source.place is not None
    known, spec = source.known, source.spec
    subset, split = (source.subset.folder, spec.split or known.split) if known else (spec.subset, spec.split)
    return replace(source, files=folders.files(source.place, subset, split, source.key))


def _on_hub(spec: Dataset, hub: str | None, places: Sequence[Path], key: str) -> Source:
    entries = known_datasets(tuple(places))
    names = {
        name: entry for name, entry in entries.items() if spec.dataset in (name, entry.modelscope, entry.huggingface)
    }
    known = next(iter(names.values()), None)
    file = folders.readable(Path(spec.dataset))
    if known is None and (file or not HUB_ID.fullmatch(spec.dataset)):
        raise _nowhere(spec.dataset, entries, key)
    id = spec.dataset
    if known is not None and hub is not None:
        id = getattr(known, hub) or ""
        if not id:
            other = next(name for name in HUBS.values() if name != hub)
            raise ConfigError(
                key, f"{spec.dataset} is not on {hub}", f"Say hub={other}, or give a folder that holds it."
            )
    _check_subset(spec, known, key)
    return Source(spec, None, (), hub, id, known, key)


def _nowhere(name: str, entries: Mapping[str, KnownDataset], key: str) -> ConfigError:
    """The sentence for a name that means nothing, with the nearest file or known dataset."""
    beside = Path(name).parent
    files = [str(file) for file in beside.iterdir() if not file.name.startswith(".")] if beside.is_dir() else []
    hint = near_miss(name, [*entries, *files])
    hint = hint if hint.startswith("Did") else "Give a file, a folder, a glob or a hub id such as org/name."
    return ConfigError(key, f"{name!r} is no file or folder", hint)


def _check_subset(spec: Dataset, known: KnownDataset | None, key: str) -> None:
    if known is not None and spec.subset is not None and spec.subset not in known.subsets:
        hint = near_miss(spec.subset, known.subsets)
        raise ConfigError(key, f"{spec.dataset} has no subset {spec.subset!r}", hint)
