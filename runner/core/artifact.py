"""What a finished stage leaves: `artifact.json`, written last, so that its presence means complete."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from runner.core.errors import DataError

FILE = "artifact.json"


@dataclass(frozen=True)
class Artifact:
    """kind: model | adapter | completions | scores | none. `path` is the file or folder that the stage made. What lies
    in the stage's folder is written down by its place there: a run that was moved or copied finds its own.
    """

    kind: str
    path: str
    base: str | None = None  # for an adapter: the model it belongs to
    fingerprint: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)

    @property
    def gone(self) -> bool:
        """Whether somebody took away what was made."""
        return not Path(self.path).exists()


def read(folder: Path) -> Artifact | None:
    """The artifact of a stage folder, or None when the stage is not complete.

    Raises:
        DataError: the file was changed into something else.
    """
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        made = Artifact(**json.loads(file.read_text(encoding="utf-8")))
        return replace(made, path=str(folder.resolve() / made.path))
    except (ValueError, TypeError) as error:
        raise DataError(f"{file}: cannot be read: {error}. Remove it, and the stage runs again.") from None


def write(folder: Path, artifact: Artifact) -> None:
    """Write `artifact.json` whole or not at all."""
    told = {**asdict(artifact), "path": place(Path(artifact.path), folder.resolve())}
    write_whole(folder / FILE, json.dumps(told, indent=2, ensure_ascii=False) + "\n")


def place(file: Path, folder: Path) -> str:
    """What a file is called in a folder's own records: `folder / place` is the file again."""
    return str(file.relative_to(folder) if file.is_relative_to(folder) else file)


def write_whole(file: Path, text: str) -> None:
    """Write a small file so that a reader, or a crash, sees the old or the new text and nothing between."""
    side = file.with_name(f".{file.name}.{os.getpid()}")
    with named(file):
        try:
            with open(side, "w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(side, file)
        except OSError:
            side.unlink(missing_ok=True)
            raise


def to_disk(path: Path) -> None:
    """Wait until a file's content, or a folder's names, would outlast a machine that goes off."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def named(file: Path) -> Iterator[None]:
    """Give an error in the middle of a file, which does not say where it happened, the file's name."""
    try:
        yield
    except OSError as error:
        if error.errno and not error.filename:
            error.filename = str(file)
        raise
