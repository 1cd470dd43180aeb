"""Content as a short digest. A file's is remembered by size and modification time, so that planning reads it once."""

import hashlib
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path

from runner.core.artifact import write_whole
from runner.core.places import cache_folder

SETTLED = 2_000_000_000  # ns: a file changed just now may change again without its time showing it


def digest(content: bytes) -> str:
    """Twelve hex digits of SHA-256."""
    return hashlib.sha256(content).hexdigest()[:12]


def combined(parts: Iterable[tuple[str, str]]) -> str:
    """One digest over (name, digest) pairs, whatever their order."""
    return digest("\n".join(f"{name} {part}" for name, part in sorted(parts)).encode())


def file_digest(file: Path) -> str:
    """The digest of a file's content; touching the file does not change it.

    Raises:
        OSError: it cannot be read.
    """
    path, stat = file.resolve(), file.stat()
    note = cache_folder() / "content" / f"{digest(os.fsencode(path))}.json"
    mark: list[str | int] = [str(path), stat.st_size, stat.st_mtime_ns]
    try:
        known = json.loads(note.read_text(encoding="utf-8"))
        if known["mark"] == mark:
            return str(known["digest"])
    except (OSError, ValueError, KeyError):
        pass  # not remembered yet, or a note of another version: read the file
    with open(path, "rb") as stream:
        made = hashlib.file_digest(stream, "sha256").hexdigest()[:12]
    if time.time_ns() - stat.st_mtime_ns > SETTLED:
        _remember(note, mark, made)
    return made


def _remember(note: Path, mark: list[str | int], made: str) -> None:
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        write_whole(note, json.dumps({"mark": mark, "digest": made}))
    except OSError:
        return  # no cache can be written here: the file is read again next time
