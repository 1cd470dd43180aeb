"""A user's own folder with light stage kinds, and the command line called in this process."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from runner.__main__ import main

# a busy machine is slow, and that is no fault of what is tested
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

ECHO = '''
"""Says words; light, so that the graph can be tried."""
from typing import ClassVar
from runner.core.artifact import Artifact
from runner.core.schema import component
from runner.core.specs import Batch, Mix, Model, Optim, Parallelism

@component
class Echo:
    """Says words."""
    model: Model
    optim: Optim
    mix: Mix
    batch: Batch
    parallelism: Parallelism
    words: str = "hello"
    fail: str = ""
    score: float = 0.5
    accepts: ClassVar[dict[str, tuple[str, ...]]] = {"model": ("model", "adapter")}
    reuse: ClassVar[str] = "always"
    interactive: ClassVar[bool] = False

    def produces(self) -> str:
        return "model"

    def check(self, roots, key) -> None:
        pass

    def run(self, job):
        print(self.words, self.model.id, self.optim.lr)
        if self.fail:
            raise ValueError(self.fail)
        return Artifact("model", str(job.folder), metrics={"score": self.score})
'''
TALLY = '''
"""Counts; makes scores and takes a model."""
from typing import ClassVar
from runner.core.artifact import Artifact
from runner.core.schema import component
from runner.core.specs import Model

@component
class Tally:
    """Counts."""
    model: Model
    accepts: ClassVar[dict[str, tuple[str, ...]]] = {"model": ("model",)}
    reuse: ClassVar[str] = "never"
    interactive: ClassVar[bool] = False

    def produces(self) -> str:
        return "scores"

    def check(self, roots, key) -> None:
        pass

    def run(self, job):
        return Artifact("scores", str(job.folder), metrics={"count": 1})
'''
TWO = """\
# Two echoes, the second needs the first.
name: two
model: some/model
optim: {lr: 1e-4}
stages:
  second: {kind: echo, model: "stage:first", words: second}
  first: {kind: echo}
"""


@dataclass
class Project:
    """A folder of a user's, as the working directory."""

    root: Path
    capture: pytest.CaptureFixture[str]

    def write(self, name: str, text: str) -> Path:
        """Put a file into the folder."""
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    def recipe(self, text: str, name: str = "mine") -> Path:
        """Write recipes/NAME.yaml."""
        return self.write(f"recipes/{name}.yaml", text)

    def call(self, *words: str) -> tuple[int, str, str]:
        """Exit code, standard output, standard error of `runner WORDS`."""
        self.capture.readouterr()
        code = main(list(words))
        told = self.capture.readouterr()
        return code, told.out, told.err


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Project]:
    """An empty working directory with two light stage kinds, `echo` and `tally`, and the recipe `two`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUNNER_CACHE", str(tmp_path / ".cache"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parent.parent))
    made = Project(tmp_path, capsys)
    made.write("plugins/stages/echo.py", ECHO)
    made.write("plugins/stages/tally.py", TALLY)
    made.recipe(TWO, "two")
    yield made
