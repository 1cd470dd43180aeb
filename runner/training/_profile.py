"""Where the time of one update goes, by kind of work: told as a table and kept as profile.json in the job's folder.

Kinds are told from the names of kernels on a GPU, of operators on a CPU. What is left of the update's time is gaps: the
GPU waits for the host, or on a CPU Python runs. Recording costs a little, so the update is not one to be timed by.
"""

import json
import re
import time
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from runner.core.artifact import write_whole

FILE = "profile.json"
KINDS = {  # the first that a name fits
    "attention": r"flash|attention|fmha",
    "matrix products": r"gemm|cutlass|nvjet|matmul|cublas|xmma|splitk|::(add)?mm$|::bmm$",
    "optimizer": r"adam|multi_tensor|foreach|lamb|adafactor",
    "loss": r"cross_entropy|element_mul|log_softmax|nll_loss",
    "exchange": r"nccl|all_?reduce|all_?gather|reduce_?scatter",
    "copies": r"memcpy|memset|copy_$",
    "elementwise and norms": r"",
}


class Profile:
    """Records the update with the number `wanted`, if any."""

    def __init__(self, wanted: int | None) -> None:
        self.wanted = wanted
        self._record: Any = None
        self._start = 0.0

    def begin(self, update: int) -> None:
        """Call when an update's work starts."""
        if update == self.wanted:
            gpu = torch.cuda.is_available()
            self._record = profile(activities=[ProfilerActivity.CUDA if gpu else ProfilerActivity.CPU])
            self._record.start()  # takes long itself, the first time on a GPU some tenths of a second
            _wait()
            self._start = time.monotonic()

    def end(self, folder: Path, tokens: int) -> None:
        """Call after the optimizer's step. tokens: of the update, on all devices."""
        if self._record is None:
            return
        _wait()
        whole = 1000 * (time.monotonic() - self._start)
        self._record.stop()
        spent = by_kind([_event(event) for event in self._record.events()], whole)
        self._record = None
        lines = [f"update {self.wanted}, {whole:,.0f} ms:"]
        lines += [f"  {kind:24}{value:10.1f} ms {value / whole:7.1%}" for kind, value in spent.items() if value]
        print("\n".join(lines), flush=True)
        told = {"update": self.wanted, "tokens": tokens, "milliseconds": spent}
        write_whole(folder / FILE, json.dumps(told, indent=1) + "\n")


def by_kind(events: list[tuple[str, float]], whole: float) -> dict[str, float]:
    """Milliseconds of each kind, and of gaps. events: names and milliseconds. whole: milliseconds of it all."""
    spent = dict.fromkeys(KINDS, 0.0)
    for name, milliseconds in events:
        spent[next(kind for kind, words in KINDS.items() if re.search(words, name, re.IGNORECASE))] += milliseconds
    spent["gaps"] = max(0.0, whole - sum(spent.values()))
    return {kind: round(value, 1) for kind, value in spent.items()}


def _event(event: Any) -> tuple[str, float]:
    """The name, and milliseconds without what it called."""
    if "cuda" in str(event.device_type).lower():
        return event.name, event.time_range.elapsed_us() / 1000
    return event.name, 0.0 if torch.cuda.is_available() else event.self_cpu_time_total / 1000


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
