"""Fetches datasets from a hub into its library's own cache, where they are folders like any other.

Files of data only, no code. What was fetched whole before is taken without asking the network; where no hub answers,
what the user put into the cache is taken as it is, and otherwise the way out is told: a local folder.
"""

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

from runner.core.artifact import write_whole
from runner.core.errors import DataError
from runner.core.places import cache_folder
from runner.data.folders import SUFFIXES, data_files
from runner.data.sources import Source, folder
from runner.models.hub import MODULES, unreachable

PATTERNS = [f"*{suffix}{packed}" for suffix in SUFFIXES for packed in ("", ".gz")] + ["README.md"]


def fetch(source: Source) -> Source:
    """A source with its files on this machine; local ones stay as they are.

    Raises:
        DataError: the hub's library is missing, the hub does not answer, or has no such dataset.
    """
    if source.hub is None or source.files:
        return source
    if importlib.util.find_spec(MODULES[source.hub]) is None:
        module = MODULES[source.hub]
        raise DataError(f"{source.id}: is on {source.hub}, and {module} is not installed. {_way_out(source)}")
    return folder(replace(source, place=_folder(source)))


def _folder(source: Source) -> Path:
    here = _download(source, local=True)
    held = isinstance(here, Path) and bool(data_files(here))
    if isinstance(here, Path) and held and _mark(source).is_file():
        return here
    silence = unreachable(str(source.hub))
    half = _mark(source).with_name(f"{_mark(source).name}.begun")  # there while a fetch has begun and not ended
    if silence and isinstance(here, Path) and held and not half.is_file():
        return here
    if silence:
        where = "only in part on this machine" if held and half.is_file() else "not on this machine"
        problem = f"is {where}, and {source.hub} does not answer ({silence})"
        raise DataError(f"{source.id}: {problem}. {_way_out(source)}")
    half.parent.mkdir(parents=True, exist_ok=True)
    half.touch()
    found = _download(source, local=False)
    if isinstance(found, str):
        problem = f"{source.hub} does not give it ({found}). Is the name right, are you logged in?"
        raise DataError(f"{source.id}: {problem} {_way_out(source)}")
    write_whole(_mark(source), f"{found}\n")
    half.unlink(missing_ok=True)
    return found


def _mark(source: Source) -> Path:
    """Its presence means that the dataset was fetched whole."""
    return cache_folder() / "hub" / f"{source.hub}--{source.id.replace('/', '--')}"


def _way_out(source: Source) -> str:
    subset = f":{source.spec.subset}" if source.spec.subset else ""
    return f"Give a folder or file in its place, such as /path/to/{source.id.rpartition('/')[2]}{subset}."


def _download(source: Source, *, local: bool) -> Path | str:
    """The folder, or the name of what went wrong."""
    given: dict[str, Any] = {"repo_type": "dataset", "local_files_only": local, "allow_patterns": PATTERNS}
    try:
        if source.hub == "modelscope":
            from modelscope.hub.snapshot_download import snapshot_download as from_modelscope

            return Path(from_modelscope(source.id, **given))
        from huggingface_hub import snapshot_download as from_huggingface

        return Path(from_huggingface(source.id, **given))
    except Exception as error:  # noqa: BLE001 - the two libraries share no error; its text may hold an address with a key
        return type(error).__name__
