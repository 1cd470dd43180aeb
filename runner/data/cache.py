"""Encoded mixes kept by their content, so that a second start takes seconds: what, where, how it is shared and cleared.

The key is made of all that decides a token or a label: the files' content, the recipe's keys, the tokenizer with its
template, the rules' source, and this package's own source. An entry is a folder that appears whole, by renaming; runs
that want the same one wait for the first. Where no cache can be written, the work is done in a folder that goes again.
"""

import atexit
import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.core.artifact import write_whole
from runner.core.content import digest
from runner.core.places import PACKAGE, cache_folder

ABOUT = "about.json"
FILES = "files"  # in it: the size of each file, so that one that a crash of the machine cut is not taken for whole
SOURCES = ("core/types.py", "core/thoughts.py", "data/*.py", "formats/*.py")


@dataclass(frozen=True)
class Entry:
    """One encoded mix. about: what it holds, for people. size: bytes. used: when it was last opened."""

    key: str
    folder: Path
    about: Mapping[str, Any]
    size: int
    used: float


def place() -> Path:
    """Where the entries lie."""
    return cache_folder() / "encoded"


def key(parts: Mapping[str, Any]) -> str:
    """Sixteen hex digits over all that decides the result; this package's own source is among it."""
    files = sorted(file for pattern in SOURCES for file in PACKAGE.glob(pattern))
    sources = {str(file.relative_to(PACKAGE)): digest(file.read_bytes()) for file in files}
    text = json.dumps({"parts": parts, "sources": sources}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def kept(name: str, make: Callable[[Path], Mapping[str, Any]]) -> tuple[Path, bool]:
    """The folder of an entry, made when it is not there.

    Args:
        name: the entry's key. make: writes the entry into a folder and returns what it holds, for people.

    Returns:
        The folder, and whether it was there already.
    """
    folder = place() / name
    if _whole(folder):
        return folder, True
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError:
        aside = Path(tempfile.mkdtemp(prefix="runner-encoded-"))
        atexit.register(shutil.rmtree, aside, ignore_errors=True)
        return _made(aside, make), False
    with _alone(folder.with_suffix(".lock")):
        if _whole(folder):
            return folder, True
        side = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=folder.parent))
        try:
            _made(side, make)
            if not _whole(folder):
                shutil.rmtree(folder, ignore_errors=True)  # a half one, of a run that was killed while renaming
                os.replace(side, folder)
        finally:
            shutil.rmtree(side, ignore_errors=True)
    return folder, False


def _made(folder: Path, make: Callable[[Path], Mapping[str, Any]]) -> Path:
    about = dict(make(folder))
    about[FILES] = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    write_whole(folder / ABOUT, json.dumps(about, ensure_ascii=False, indent=1) + "\n")
    return folder


def _whole(folder: Path) -> bool:
    """Whether an entry is there; looking at it counts as using it."""
    about = _about(folder)
    if about is None or any(_size(folder / name) != size for name, size in about.get(FILES, {}).items()):
        return False
    with contextlib.suppress(OSError):  # a cache that others may only read
        os.utime(folder / ABOUT)
    return True


def _about(folder: Path) -> dict[str, Any] | None:
    """What an entry tells of itself; None where there is none, or none that can be read."""
    try:
        return dict(json.loads((folder / ABOUT).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else -1


@contextlib.contextmanager
def _alone(file: Path) -> Iterator[None]:
    """One process at a time where the file system has locks; elsewhere the work is done twice, and is as good."""
    from filelock import FileLock

    lock = FileLock(file)
    with contextlib.suppress(OSError, NotImplementedError):
        lock.acquire()
    try:
        yield
    finally:
        lock.release(force=True)


def entries() -> list[Entry]:
    """All entries, the last used first; one that cannot be read is made anew when it is needed."""
    found = []
    for folder in place().glob("*") if place().is_dir() else ():
        about = _about(folder)
        if about is not None:
            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            found.append(Entry(folder.name, folder, about, size, (folder / ABOUT).stat().st_mtime))
    return sorted(found, key=lambda entry: -entry.used)


def clear(names: set[str] | None = None, older_than: float = 0.0) -> list[Entry]:
    """Remove entries, and what killed runs left behind.

    Args:
        names: keys, or the start of them; all when None. older_than: seconds since an entry was used.
    """
    now, gone = time.time(), []
    for entry in entries():
        chosen = names is None or any(entry.key.startswith(name) for name in names)
        if chosen and now - entry.used >= older_than:
            shutil.rmtree(entry.folder)
            gone.append(entry)
    for side in place().glob(".*.*") if place().is_dir() else ():
        if side.is_dir() and now - side.stat().st_mtime > 24 * 3600:
            shutil.rmtree(side, ignore_errors=True)
    return gone
