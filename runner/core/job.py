"""What a running stage is given, and how it tells how far it is.

The worker makes a `Job` from the stage's folder; a stage reads it and never looks anywhere else.
Progress goes to the parent process as one JSON object a line when it asked for it (RUNNER_PROGRESS_FD);
a stage that is run alone prints plain lines.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

JOB_FILE = "job.yaml"
PROGRESS_FD = "RUNNER_PROGRESS_FD"  # a pipe for progress objects
PARENT_FD = "RUNNER_PARENT_FD"  # a pipe that closes when the parent dies


@dataclass
class Progress:
    """Reports work done. `what` names the unit: updates, rows, questions."""

    interval: float = 10.0  # seconds between plain lines
    _last: float = field(default=0.0, repr=False)
    _start: float = field(default_factory=time.monotonic, repr=False)

    def update(self, done: int, total: int, what: str = "", **shown: Any) -> None:
        """Say how far the work is; `shown` are figures such as loss=1.2."""
        now = time.monotonic()
        if PROGRESS_FD in os.environ:
            line = json.dumps({"done": done, "total": total, "what": what, "shown": shown}) + "\n"
            os.write(int(os.environ[PROGRESS_FD]), line.encode())
        elif done >= total or now - self._last >= self.interval:
            self._last = now
            figures = "  ".join(f"{name} {value}" for name, value in shown.items())
            print(f"{what} {done}/{total}  {figures}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Job:
    """One stage's work order.

    name: the stage's name in the recipe. folder: where it writes. run: the run's folder.
    identity: all that decides what the stage makes.
    roots: search roots for plugins, first one wins. hub: which hub ids belong to.
    stopping: answers whether the user asked to stop; long work looks at it between its units.
    own_process: the stage is all that this process does, and may end it.
    """

    name: str
    folder: Path
    run: Path
    seed: int = 42
    hub: str = "modelscope"
    roots: tuple[Path, ...] = ()
    fingerprint: str = ""
    identity: Mapping[str, Any] = field(default_factory=dict)
    progress: Progress = field(default_factory=Progress)
    stopping: Callable[[], bool] = lambda: False
    own_process: bool = False
