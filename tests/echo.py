"""A stage kind that costs nothing, as a user's plugin: the tests of plan, execution and processes run graphs of it."""

from pathlib import Path

STAGE = '''
"""Says words and waits; fails, or is deaf to signals, when told."""

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from runner.core.artifact import Artifact
from runner.core.errors import DataError, Interrupted, StageError
from runner.core.job import Job
from runner.core.schema import component
from runner.core.specs import Model, Optim


@component
class Echo:
    """Says words and waits."""

    model: Model
    optim: Optim
    words: str = "hello"
    fail: str = ""
    ticks: int = 2
    makes: str = "model"
    inside: str = ""  # the folder in the stage's where it says them
    accepts: ClassVar[dict[str, tuple[str, ...]]] = {"model": ("model", "adapter")}
    reuse: ClassVar[str] = "always"
    interactive: ClassVar[bool] = False

    def produces(self) -> str:
        return self.makes

    def check(self, roots: Sequence[Path], key: str) -> None:
        pass

    def run(self, job: Job) -> Artifact:
        print(self.words, self.model.id, flush=True)
        if self.fail == "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for tick in range(self.ticks):
            time.sleep(0.05)
            job.progress.update(tick + 1, self.ticks, "ticks", loss=1.0 / (tick + 1))
            if job.stopping():
                raise Interrupted(f"{job.name}: stopped after {tick + 1} ticks")
        if self.fail == "mistake":
            raise DataError("rows.jsonl:3: is not JSON. Mend the line.")
        if self.fail == "sentence":
            raise StageError("the server went away.")
        if self.fail == "exit":
            os._exit(7)
        if self.fail:
            raise ValueError(self.fail)
        out = job.folder / self.inside
        out.mkdir(exist_ok=True)
        (out / "said.txt").write_text(self.words)
        return Artifact(self.makes, str(out), metrics={"ticks": self.ticks})
'''

RECIPE = """\
# Two echoes, the second after the first.
# @package _global_
name: two
model: some/model
optim: {lr: 1e-4}
stages:
  second: {kind: echo, model: "stage:first", words: again}
  first: {kind: echo}
"""


def user_folder(folder: Path) -> Path:
    """A user's folder with the stage kind `echo` and the recipe `two`."""
    for name, text in {"plugins/stages/echo.py": STAGE, "recipes/two.yaml": RECIPE}.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return folder
