"""The run folder's own files: config.yaml, plan.json and provenance.json.

Provenance never holds a token or a key: it takes named things only.
"""

import json
import os
import platform
import re
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from runner.core import schema
from runner.core.artifact import write_whole
from runner.core.errors import DataError, first_line
from runner.core.places import package_root
from runner.plan import Plan

PACKAGES = (
    "torch", "transformers", "accelerate", "peft", "datasets", "trl", "vllm", "deepspeed", "liger-kernel",
    "flash-attn", "flash-attn-4", "tokenizers", "safetensors", "hydra-core", "omegaconf", "pydantic",
)  # fmt: skip
SECRET = re.compile(
    r"(?i)([\w.-]*(?:token(?![a-z])|secret|password|api_?key|credential)[\w.]*['\"]?\s*[:=]\s*)[^,}\s]+"
)
URL = re.compile(r"(://)[^/@\s]+@")


def describe(plan: Plan) -> None:
    """Write config.yaml, plan.json and provenance.json."""
    config = schema.plain({**plan.values, "output_dir": str(plan.run)})
    write_whole(plan.run / "config.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=1000))
    write_whole(plan.run / "plan.json", json.dumps(summary(plan), indent=2, default=str) + "\n")
    write_whole(plan.run / "provenance.json", json.dumps(provenance(plan), indent=2, default=str) + "\n")


def read(file: Path) -> dict[str, Any]:
    """One of these files again.

    Raises:
        DataError: it was changed into something else.
    """
    try:
        held = yaml.safe_load(file.read_text(encoding="utf-8"))  # JSON is YAML too
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read: {first_line(error)}. Mend it, or run the recipe anew.") from None
    if not isinstance(held, dict):
        raise DataError(f"{file}: should hold keys and values. Mend it, or run the recipe anew.")
    return held


def summary(plan: Plan) -> dict[str, Any]:
    """The plan as data: one entry a stage, in order."""
    steps = [
        {
            "name": step.name,
            "kind": step.kind,
            "needs": list(step.needs),
            "produces": step.stage.produces(),
            "state": step.state,
            "reason": step.reason,
            "fingerprint": step.fingerprint,
            "folder": str(step.folder),
        }
        for step in plan.steps
    ]
    return {"name": plan.recipe.name, "run": str(plan.run), "stages": steps}


def provenance(plan: Plan) -> dict[str, Any]:
    """Where the run comes from: command, code, packages, machine, seed, data."""
    return {
        "command": [hidden(word) for word in sys.argv],
        "overrides": [hidden(word) for word in _overrides()],
        "folder": str(Path.cwd()),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "git": git(Path.cwd()),
        "runner": git(package_root()),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "hardware": hardware(),
        "seed": plan.recipe.seed,
        "sources": {step.name: dict(step.identity["sources"]) for step in plan.steps if step.identity["sources"]},
    }


def _overrides() -> list[str]:
    """The job's own overrides, a sweep's choices among them; none outside of Hydra."""
    module = sys.modules.get("hydra.core.hydra_config")
    if module is None or not module.HydraConfig.initialized():
        return []
    return [str(word) for word in module.HydraConfig.get().overrides.task]


def hidden(word: str) -> str:
    """A word of the command line without the value of any key that speaks of a secret, and without a URL's password."""
    return URL.sub(r"\1(hidden)@", SECRET.sub(r"\1(hidden)", word))


def hardware() -> dict[str, Any]:
    """The machine: processor, memory, and GPUs as nvidia-smi tells them (none where it is not installed)."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    machine = {"machine": platform.machine(), "system": platform.platform(), "cpus": os.cpu_count()}
    return {**machine, "memory_gib": round(memory, 1), "gpus": _gpus()}


def _gpus() -> list[str]:
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, check=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in told.splitlines() if line.strip()]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def git(folder: Path) -> dict[str, Any] | None:
    """The commit of a folder's repository and whether files differ from it; None where there is no repository."""

    def ask(*words: str) -> str:
        command = ["git", "-C", str(folder), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return {"commit": ask("rev-parse", "HEAD"), "dirty": bool(ask("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None
