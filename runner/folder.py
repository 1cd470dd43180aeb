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
from typing import Any

import yaml

from runner.core import schema
from runner.core.artifact import write_whole
from runner.plan import Plan

PACKAGES = (
    "torch", "transformers", "accelerate", "peft", "datasets", "trl", "vllm", "deepspeed", "liger-kernel",
    "flash-attn", "flash-attn-4", "tokenizers", "safetensors", "hydra-core", "omegaconf", "pydantic",
)  # fmt: skip
SECRET = re.compile(r"(?i)(token|secret|password|api_?key|credential)")


def describe(plan: Plan) -> None:
    """Write config.yaml, plan.json and provenance.json."""
    config = schema.plain({**plan.values, "output_dir": str(plan.run)})
    write_whole(plan.run / "config.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=1000))
    write_whole(plan.run / "plan.json", json.dumps(summary(plan), indent=2, default=str) + "\n")
    write_whole(plan.run / "provenance.json", json.dumps(provenance(plan), indent=2, default=str) + "\n")


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
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "git": _git(),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "hardware": {"machine": platform.machine(), "system": platform.platform(), "cpus": os.cpu_count()},
        "seed": plan.recipe.seed,
        "sources": {step.name: dict(step.identity["sources"]) for step in plan.steps if step.identity["sources"]},
    }


def hidden(word: str) -> str:
    """A word of the command line, its value left out where the key speaks of a secret."""
    key, mark, _ = word.partition("=")
    return f"{key}=(hidden)" if mark and SECRET.search(key) else word


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git() -> dict[str, Any] | None:
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None
