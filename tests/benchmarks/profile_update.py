"""Where the time of an update goes on a GPU: runs a stage's folder alone and profiles one of its updates by kind.

usage: python tests/benchmarks/profile_update.py STAGE_FOLDER [--update 6] [--out FILE.json]

STAGE_FOLDER is that of a training (outputs/NAME/train), without an artifact, so that it is still to be run. Kinds are
told from the kernels' names; what the GPU spends on none of them is a gap, in which it waits for the host.
"""

import argparse
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

KINDS = {  # the first that a kernel's name fits
    "attention": r"flash|attention|fmha",
    "matrix products": r"gemm|cutlass|nvjet|matmul|cublas|sm90_xmma|splitK",
    "optimizer": r"adam|multi_tensor|foreach|lamb",
    "loss": r"cross_entropy|element_mul",
    "copies": r"memcpy|memset",
    "elementwise and norms": r"",
}


def kinds(events: Any) -> dict[str, float]:
    """Milliseconds of each kind of kernel."""
    spent = dict.fromkeys(KINDS, 0.0)
    for event in events:
        if "cuda" in str(event.device_type).lower():
            kind = next(kind for kind, words in KINDS.items() if re.search(words, event.name, re.IGNORECASE))
            spent[kind] += event.time_range.elapsed_us() / 1000
    return spent


def main() -> None:
    """Run the stage with one update under the profiler."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--update", type=int, default=6)
    parser.add_argument("--out", type=Path, default=Path("profile_update.json"))
    given = parser.parse_args()
    import torch
    from torch.profiler import ProfilerActivity, profile

    from runner import worker
    from runner.training._update_trainer import UpdateTrainer

    plain = UpdateTrainer.training_step

    def step(self: Any, model: Any, inputs: Any, *more: Any) -> Any:
        if self.state.global_step != given.update:
            return plain(self, model, inputs, *more)
        torch.cuda.synchronize()
        start = time.monotonic()
        with profile(activities=[ProfilerActivity.CUDA]) as record:
            made = plain(self, model, inputs, *more)
            torch.cuda.synchronize()
        whole = 1000 * (time.monotonic() - start)
        spent = kinds(record.events())
        spent["gaps"] = max(0.0, whole - sum(spent.values()))
        table = {kind: round(value, 1) for kind, value in spent.items()}
        for kind, value in table.items():
            print(f"{kind:24}{value:9.1f} ms {100 * value / whole:5.1f} %", flush=True)
        given.out.write_text(json.dumps({"milliseconds": table, "tokens": self._item.size.tokens}) + "\n")
        return made

    UpdateTrainer.training_step = step  # type: ignore[method-assign]
    raise SystemExit(worker.main([given.folder]))


if __name__ == "__main__":
    main()
