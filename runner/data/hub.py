"""Fetches datasets from a hub into its own cache, where they are folders like any other; offline within seconds.

Files of data only, no code. Refuses with the way out, a local folder, where no hub answers.
"""

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

from runner.core.errors import DataError
from runner.data.folders import SUFFIXES
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
        raise DataError(
            f"{source.id}: is on {source.hub}, and {MODULES[source.hub]} is not installed. {_way_out(source)}"
        )
    found = _download(source, local=True)
    if isinstance(found, str):
        silence = unreachable(source.hub)
        if silence:
            raise DataError(
                f"{source.id}: is not on this machine, and {source.hub} does not answer ({silence}). {_way_out(source)}"
            )
        found = _download(source, local=False)
    if isinstance(found, str):
        raise DataError(f"{source.id}: {source.hub} does not give it ({found}). Is the name right? {_way_out(source)}")
    return folder(replace(source, place=found))


def _way_out(source: Source) -> str:
    subset = f":{source.spec.subset}" if source.spec.subset else ""
    title = source.id.rpartition("/")[2]
    return f"Or give a folder or file in its place: mix.datasets=[/path/to/{title}{subset}]."


def _download(source: Source, *, local: bool) -> Path | str:
    """The folder, or the name of what went wrong."""
    given: dict[str, Any] = {"local_files_only": local, "allow_patterns": PATTERNS}
    try:
        if source.hub == "modelscope":
            from modelscope.hub.snapshot_download import dataset_snapshot_download

            return Path(dataset_snapshot_download(source.id, **given))
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(source.id, repo_type="dataset", **given))
    except Exception as error:  # noqa: BLE001 - the two libraries share no error; its text may hold an address with a key
        return type(error).__name__
