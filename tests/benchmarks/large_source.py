"""How much memory it takes to encode a source that is larger than what is kept in memory, at several sizes.

usage: python tests/benchmarks/large_source.py [--mib 64,256] [--from-mib 32] [--out large_source.json]
Rows of 16 KiB of plain text in a JSON Lines file, split at 2,048 tokens, with duplicates looked for and rows kept aside
for validation; rows stay on the disk from `--from-mib` on (1,024 in use). Prints a table, writes JSON: seconds, peak of
the memory that is the process's own (what is mapped from files can be given back at any time), bytes of it a row.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = """
import json, sys, threading, time
from pathlib import Path
from runner.core.places import package_root
from runner.core.specs import Mix, Template, Validation
from runner.data import on_disk
from runner.data.prepare import Reading, prepare
from tests.tiny import tiny_tokenizer
import runner.data._encoding_process
on_disk.LARGE = int(float(sys.argv[2]) * 2**20)
def own():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024
tokenizer = tiny_tokenizer()
peak = before = own()
def watch():
    global peak
    while True:
        peak = max(peak, own())
        time.sleep(0.02)
threading.Thread(target=watch, daemon=True).start()
begun = time.perf_counter()
made = prepare(
    tokenizer, Mix(datasets=[sys.argv[1]], validation=Validation(rows=20), duplicates="drop"),
    Reading(Template(), ["default"], 2048, "split"), seed=1, hub="modelscope", places=[package_root()], max_dropped=1.0,
)
print(json.dumps({"seconds": time.perf_counter() - begun, "rows": len(set(made.train.rows)), "before_mib": before,
                  "peak_mib": peak, "tokens": sum(made.train.lengths)}))
"""


def build(file: Path, mib: int) -> None:
    """Rows of words, each different."""
    chance = random.Random(0)
    words = [f"{'aeiou'[n % 5]}{n:x}" for n in range(2000)]
    with open(file, "w", encoding="utf-8") as stream:
        while stream.tell() < mib * 2**20:
            stream.write(json.dumps({"text": " ".join(chance.choices(words, k=3700))}) + "\n")


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mib", default="64,256")
    parser.add_argument("--from-mib", type=float, default=32)
    parser.add_argument("--out", type=Path, default=Path("large_source.json"))
    given = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    print(f"{'source':>10}{'rows':>10}{'tokens':>14}{'seconds':>10}{'before, MiB':>14}{'peak, MiB':>12}")
    for mib in map(int, given.mib.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            build(Path(folder) / "rows.jsonl", mib)
            done = subprocess.run(
                [sys.executable, "-c", PROGRAM, f"{folder}/rows.jsonl", str(given.from_mib)],
                env={**os.environ, "PYTHONPATH": str(ROOT), "RUNNER_CACHE": folder},
                capture_output=True, text=True, check=False,
            )  # fmt: skip
        if done.returncode:
            raise SystemExit(done.stderr[-2000:])
        row = found[f"{mib} MiB"] = json.loads(done.stdout.strip().splitlines()[-1])
        print(f"{mib:>6} MiB{row['rows']:>10,.0f}{row['tokens']:>14,.0f}{row['seconds']:>10.1f}", end="")
        print(f"{row['before_mib']:>14.0f}{row['peak_mib']:>12.0f}")
    given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
