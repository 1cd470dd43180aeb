"""How long packing a whole data set takes and how full the packs are, and what dealing one epoch of rows costs.

usage: python tests/benchmarks/pack_rows.py [--rows 10000000] [--out pack_rows.json]
Lengths are drawn from a long-tailed distribution (log-normal, median 490 tokens, cut at 8,192) and from a flat one.
Prints a table, writes JSON: seconds, share of the packs that is filled, seconds of one epoch, peak memory.
"""

import argparse
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))
ROOM = 8192


def drawn(kind: str, rows: int) -> Any:
    """Lengths of rows."""
    import numpy as np

    chance = np.random.RandomState(0)
    if kind == "flat":
        return chance.randint(1, ROOM + 1, rows)
    return np.clip(chance.lognormal(6.2, 0.9, rows).astype(np.int64), 8, ROOM)


def main() -> None:
    """Measure and tell."""
    from runner.data.packing import dealt, slots

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--out", type=Path, default=Path("pack_rows.json"))
    given = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    print(f"{given.rows:,} rows into packs of {ROOM:,} tokens")
    print(f"{'lengths':<14}{'seconds':>10}{'full':>10}{'packs':>12}{'epoch, s':>10}{'peak GiB':>10}")
    for kind in ("long-tailed", "flat"):
        lengths = drawn(kind, given.rows)
        begun = time.perf_counter()
        made = slots(lengths, ROOM)
        packed = time.perf_counter()
        dealt(lengths, made, "0")
        ended = time.perf_counter()
        packs = int(made.max()) + 1
        found[kind] = {
            "seconds": packed - begun, "full": float(lengths.sum(dtype="int64")) / (packs * ROOM), "packs": packs,
            "epoch_seconds": ended - packed, "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        }  # fmt: skip
        row = found[kind]
        print(f"{kind:<14}{row['seconds']:>10.1f}{row['full']:>10.2%}{packs:>12,}", end="")
        print(f"{row['epoch_seconds']:>10.1f}{row['peak_gib']:>10.2f}")
    given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
