"""How long a person waits for an answer: whole processes, from the shell's start of it to its end.

usage: python tests/benchmarks/startup.py [--repeat 7] [--out startup.json]
Prints a table, writes JSON. The aims are those of two cores; nothing here fails when they are missed.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
AIMS = {  # command -> seconds
    "--help": 0.15,
    "list": 0.3,
    "--cfg job": 0.8,
    "--info defaults": 0.8,
    "explain": 0.8,
    "plan": 1.2,
    "plan of 100 recipes": 1.2,
    "completion": 0.8,
}
RECIPE = """\
# A recipe of the usual size.
defaults:
  - override /train_type: lora
name: one
model: Qwen/Qwen3-8B
mix: {datasets: ["org/a#2000", "org/b#600"], validation: {fraction: 0.01}, variables: {NAME: Ada}}
max_length: 2048
optim: {lr: 1e-4, warmup: 0.05}
stages:
  answer: {kind: infer, questions: ["who are you?"]}
  again: {kind: infer, questions: ["and now?"], prompts: ["stage:answer"]}
"""


def command(name: str) -> list[str]:
    """The words after `python -m runner`."""
    if name in ("--help", "list"):
        return [name]
    if name.startswith("plan"):
        return ["plan", "recipe=one"]
    if name == "completion":
        return ["-sc", "query=bash"]
    return [*(["explain"] if name == "explain" else name.split()), "recipe=one"]


def write_recipes(folder: Path, count: int) -> None:
    """So many recipes of one's own, `one` among them."""
    (folder / "recipes").mkdir(parents=True)
    for number in range(count):
        name = f"other_{number}" if number else "one"
        (folder / "recipes" / f"{name}.yaml").write_text(RECIPE, encoding="utf-8")


def timed(words: list[str], folder: Path, repeat: int) -> list[float]:
    """Seconds of each try, after one that warms the disk's cache."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COMP_LINE": "runner recipe=o"}
    taken = []
    for _ in range(repeat + 1):
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "runner", *words], cwd=folder, env=environment, capture_output=True
        )
        taken.append(time.perf_counter() - start)
        if done.returncode:
            sys.exit(f"{words}: exit code {done.returncode}: {done.stderr.decode()}")
    return taken[1:]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("startup.json"))
    chosen = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for count in (1, 100):
            write_recipes(Path(name) / str(count), count)
        for what, aim in AIMS.items():
            taken = timed(command(what), Path(name) / ("100" if "100" in what else "1"), chosen.repeat)
            rows.append({"command": what, "aim": aim, "median": statistics.median(taken), "worst": max(taken)})
            print(f"{what:<22} {rows[-1]['median']:6.2f} s   worst {rows[-1]['worst']:5.2f} s   aim {aim:4.2f} s")
    machine = {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()}
    chosen.out.write_text(json.dumps({"machine": machine, "commands": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
