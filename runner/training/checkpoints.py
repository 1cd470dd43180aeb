"""Checkpoints that are whole or absent.

A checkpoint is written into a side folder. When all is on the disk, a marker with each file's size and checksum is
written last and the folder gets its name. A folder without a marker, or whose files differ from it, is passed over.
"""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.core.artifact import to_disk, write_whole

PREFIX = "checkpoint-"
MARKER = "complete.json"
DAMAGED = "damaged.json"  # in the marker's place, once files were found to differ from it
WEIGHTS_ONLY = "holds weights only (save.weights_only)"  # why one that is whole is passed over
SIDE = ".writing"  # in the stage's folder: what a stop in the middle leaves
PARTS = ".parts"  # there too, until the next checkpoint: one of ZeRO, put together to be gone on from


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint. facts: what was told when it was made (update, resumable, eval_loss, ...)."""

    folder: Path
    update: int
    facts: Mapping[str, Any]


def finish(side: Path, folder: Path, facts: Mapping[str, Any]) -> Path:
    """Make a side folder a checkpoint of `folder`.

    Args:
        side: holds all files, in any depth. facts: plain data; must have `update`.

    Returns:
        The checkpoint's folder.
    """
    target = folder / f"{PREFIX}{facts['update']}"
    files = {}
    for file in sorted(path for path in side.rglob("*") if path.is_file()):
        to_disk(file)
        files[str(file.relative_to(side))] = {"bytes": file.stat().st_size, "sha256": checksum(file)}
    for inner in [path for path in side.rglob("*") if path.is_dir()]:
        to_disk(inner)
    write_whole(side / MARKER, json.dumps({"facts": dict(facts), "files": files}, indent=1) + "\n")
    to_disk(side)
    if target.exists():  # a broken one of the same update
        shutil.rmtree(target)
    os.replace(side, target)
    to_disk(folder)
    return target


def checksum(file: Path) -> str:
    """SHA-256 in hex."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def flaw(folder: Path) -> str | None:
    """Why a folder is no complete checkpoint, or None when it is one."""
    marker = folder / MARKER
    if not marker.is_file():
        return "was found damaged before" if (folder / DAMAGED).is_file() else "was not written to its end"
    try:
        files = json.loads(marker.read_text(encoding="utf-8"))["files"]
    except (ValueError, KeyError):
        return f"{MARKER} cannot be read"
    for name, told in files.items():
        file = folder / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != told["bytes"]:
            return f"{name} has {file.stat().st_size} bytes instead of {told['bytes']}"
        if checksum(file) != told["sha256"]:
            return f"{name} is damaged"
    return None


def tell(folder: Path, more: Mapping[str, Any]) -> None:
    """Add to the facts of a checkpoint what became known of it later."""
    marker = folder / MARKER
    told = json.loads(marker.read_text(encoding="utf-8"))
    write_whole(marker, json.dumps({**told, "facts": {**told["facts"], **more}}, indent=1) + "\n")


def newest_first(folder: Path) -> list[Path]:
    """Folders named like checkpoints, whole or not."""
    found = [path for path in folder.glob(f"{PREFIX}*") if path.is_dir() and path.name.removeprefix(PREFIX).isdigit()]
    return sorted(found, key=lambda path: -int(path.name.removeprefix(PREFIX)))


def read(folder: Path) -> Checkpoint | None:
    """What the marker tells, without looking at the files."""
    try:
        facts = json.loads((folder / MARKER).read_text(encoding="utf-8"))["facts"]
    except (OSError, ValueError, KeyError):
        return None
    return Checkpoint(folder, int(facts["update"]), facts)


def last_complete(folder: Path) -> tuple[Checkpoint | None, dict[Path, str]]:
    """The newest checkpoint from which a training can go on, and of each newer one that was passed over the reason."""
    passed: dict[Path, str] = {}
    for path in newest_first(folder):
        found, wrong = read(path), flaw(path)
        if wrong or found is None:
            passed[path] = wrong or "its marker cannot be read"
        elif not resumable(found):
            passed[path] = WEIGHTS_ONLY
        else:
            return found, passed
    return None, passed


def resumable(found: Checkpoint) -> bool:
    """Whether a training can go on from it, if its files are whole."""
    return bool(found.facts.get("resumable", True))


def unmark(folder: Path) -> None:
    """A damaged checkpoint counts as none from now on: it must not be kept in the place of a good one."""
    with suppress(FileNotFoundError):
        os.replace(folder / MARKER, folder / DAMAGED)


def complete(folder: Path) -> Iterator[Checkpoint]:
    """Every checkpoint with a marker, newest first; files are not looked at."""
    for path in newest_first(folder):
        found = read(path)
        if found is not None:
            yield found


def best(folder: Path) -> Checkpoint | None:
    """The checkpoint of the best evaluation, the newer of equals."""
    return _best(complete(folder))


def _best(of: Iterable[Checkpoint]) -> Checkpoint | None:
    scored = [(place, found) for found in of if (place := standing(found.facts)) is not None]
    return min(scored, key=lambda pair: (pair[0], -pair[1].update), default=(None, None))[1]


def standing(told: Mapping[str, Any]) -> float | None:
    """How good an evaluation is, lower is better: the mean reward turned round where there is one, else the loss."""
    reward, loss = told.get("eval_reward"), told.get("eval_loss")
    found = loss if reward is None else -reward
    return found if found is not None and math.isfinite(found) else None


def rotate(folder: Path, keep: int, update: int) -> None:
    """Keep the newest, then the best, then the next newest: at most `keep` together. Broken ones stay as they are.

    Args:
        update: of the checkpoint just made. What an earlier start left of later updates stays until they come again.
    """
    found = [checkpoint for checkpoint in complete(folder) if checkpoint.update <= update]
    leading = _best(found)
    order = found[:1] + ([leading] if leading else []) + found[1:]
    kept = list(dict.fromkeys(checkpoint.folder for checkpoint in order))[:keep]
    for checkpoint in found:
        if checkpoint.folder not in kept:
            gone = folder / SIDE / checkpoint.folder.name  # a stop in the middle leaves nothing that stays for ever
            gone.parent.mkdir(exist_ok=True)
            os.replace(checkpoint.folder, gone)
            shutil.rmtree(gone)
