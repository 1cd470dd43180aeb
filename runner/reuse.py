"""Whether a stage's finished work may be used again, and if not, what changed from what to what.

A stage's identity is everything that decides what it makes: its kind, its keys (those of execution left out), the
content of its data, plugins and models, and the identities of the stages it needs.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from runner.core import artifact
from runner.core.errors import DataError
from runner.core.job import JOB_FILE

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
PLAIN = ("kind", "seed", "hub")  # parts of an identity that are no mapping
USED = ("reuse", "complete")
SHOWN = 6  # differences that are told one by one


def fingerprint(identity: Mapping[str, Any]) -> str:
    """Sixteen hex digits over an identity."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:16]


def state(stage: Any, folder: Path, identity: Mapping[str, Any], rerun: Sequence[str]) -> tuple[str, str]:
    """run, reuse or changed, and why. rerun: stages it needs that are not reused."""
    if stage.reuse == "never":
        return "run", "runs each time"
    mark, done, old = fingerprint(identity), artifact.read(folder), _last_order(folder)
    if done is not None and done.fingerprint == mark:
        if rerun:
            return "run", f"{rerun[0]} runs again"
        if done.gone:
            return "run", f"what it made, {done.path}, is gone"
        judged: tuple[str, str] = stage.reusable(done, folder.name) if hasattr(stage, "reusable") else USED
        return judged
    if done is None and not _unfinished_work(folder):
        return "run", "not yet run" if old is None else "not complete"
    if old is not None and done is None and old["fingerprint"] == mark:
        return "run", "goes on where it stopped"
    return "changed", told(differences(old["identity"], identity) if old else [])


def told(changes: Sequence[str]) -> str:
    """The changes as one line, the first few of many."""
    more = f"; and {len(changes) - SHOWN} more" if len(changes) > SHOWN else ""
    return "; ".join(changes[:SHOWN]) + more if changes else "made by another recipe"


def _unfinished_work(folder: Path) -> bool:
    """Whether a stopped stage left something that another identity must not go on from."""
    return any(folder.glob("checkpoint-*")) or _answered(folder)


def _answered(folder: Path) -> bool:
    """Whether a stage that answers has any answer, in its result or beside it."""
    file, journal = folder / "progress.json", folder / "journal.jsonl"
    if not file.is_file():
        return False
    try:
        told = dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise _unreadable(file, folder) from None
    return told.get("rows") != 0 or (journal.is_file() and journal.stat().st_size > 0)


def _last_order(folder: Path) -> dict[str, Any] | None:
    file = folder / JOB_FILE
    if not file.is_file():
        return None
    try:
        order = yaml.load(file.read_text(encoding="utf-8"), Loader=_LOADER)
        return {"fingerprint": order["fingerprint"], "identity": order["identity"]}
    except (yaml.YAMLError, UnicodeDecodeError, TypeError, KeyError):
        raise _unreadable(file, folder) from None


def _unreadable(file: Path, folder: Path) -> DataError:
    return DataError(f"{file}: cannot be read. Remove the folder {folder}, and the stage is done again.")


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What changed between two identities, as "optim.lr: 0.0001 -> 0.0002" or "data a.jsonl: changed"."""
    before, after = dict(_flat(old)), dict(_flat(new))
    changed = [
        key for key in {**before, **after} if before.get(key) != after.get(key) and len(key) + (key[0] in PLAIN) > 1
    ]
    own = [_change(key, before, after) for key in changed if key[0] != "needs"]
    return own or [f"{key[-1]} changed" for key in changed]


def _flat(value: Any, key: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from _flat(item, (*key, str(name)))
    else:
        yield key, value


def _change(key: tuple[str, ...], before: Mapping[Any, Any], after: Mapping[Any, Any]) -> str:
    if key[0] == "sources":
        new, gone = key not in before, key not in after
        return f"{key[-1]}: {'new' if new else 'no longer used' if gone else f'{before[key]} -> {after[key]}'}"
    name = ".".join(key[1:] if key[0] == "keys" else key)
    return f"{name}: {_value(before, key)} -> {_value(after, key)}"


def _value(values: Mapping[Any, Any], key: tuple[str, ...]) -> str:
    return repr(values[key]) if key in values else "(absent)"
