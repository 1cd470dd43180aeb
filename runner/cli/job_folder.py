"""The folder of a sweep's job: made from its overrides alone, so that the same sweep finds its jobs again."""

import hashlib
import re
from collections.abc import Sequence
from typing import Any

from omegaconf import OmegaConf

from runner.core.schema import execution_keys
from runner.core.specs import Recipe

LONGEST = 120  # letters of a job's folder name


def folder_name(overrides: Sequence[str], left_out: Sequence[str] = ()) -> str:
    """The folder of a job: its overrides without plus signs, made safe for a path, shortened with a hash.

    Keys that are execution only are left out: the same work belongs in the same folder. So is the recipe, whose name
    stands above, unless the command line names the sweep.
    """
    skipped = {*left_out, *execution_keys(Recipe)}
    if not any(word.lstrip("+").startswith("name=") for word in overrides):
        skipped.add("recipe")
    told_apart: list[str] = []
    for word in sorted(word.lstrip("+") for word in overrides):
        key = word.split("=")[0].lstrip("~")
        if key not in skipped and not any(key.startswith(f"{parent}.") for parent in skipped):
            told_apart.append(f"without_{key}" if word.startswith("~") else word)
    whole = ",".join(told_apart) or "as_written"
    safe = re.sub(r"[^\w.=,+-]+", "_", whole.replace("'", "").replace('"', ""))
    if safe != whole or len(safe) > LONGEST:
        mark = hashlib.sha256(whole.encode()).hexdigest()[:8]
        safe = f"{safe[: LONGEST - 9].rstrip('_')}-{mark}"
    return safe


def register() -> None:
    """Make known the resolver that conf/config.yaml names."""
    OmegaConf.register_new_resolver("job_folder", _resolver, replace=True)


def _resolver(overrides: Any, left_out: Any) -> str:
    return folder_name(OmegaConf.to_container(overrides, resolve=False), list(left_out))  # type: ignore[arg-type]
