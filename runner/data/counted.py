"""What a mix came to when it was encoded, remembered under what decides it as a plan knows it: the next plan is exact.

The cache of encodings is keyed by the tokenizer itself, which a plan never loads; this note beside it is keyed by the
keys and contents that a plan has at hand. A note that cannot be read or written is no note.
"""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from runner.core.artifact import write_whole
from runner.core.content import digest
from runner.core.places import cache_folder

DECIDE = ("model", "mix", "template", "loss_scale", "max_length", "overlong")


@dataclass(frozen=True)
class Counted:
    """Of one epoch, after what was dropped and what was kept aside."""

    rows: int
    tokens: int


def remember(identity: Mapping[str, Any], counted: Counted) -> None:
    """Write the note. identity: of the stage, as it stands in its job.yaml."""
    note = _note(identity)
    with contextlib.suppress(OSError):  # a cache that may only be read
        note.parent.mkdir(parents=True, exist_ok=True)
        write_whole(note, json.dumps(asdict(counted)))


def known(identity: Mapping[str, Any]) -> Counted | None:
    """The note of the same mix, read the same way."""
    try:
        return Counted(**json.loads(_note(identity).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _note(identity: Mapping[str, Any]) -> Path:
    keys = {key: identity["keys"].get(key) for key in DECIDE}
    decides = [keys, *(identity.get(name) for name in ("kind", "sources", "needs", "seed", "hub"))]
    return cache_folder() / "counted" / f"{digest(json.dumps(decides, sort_keys=True, default=str).encode())}.json"
