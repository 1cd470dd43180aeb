"""Talk with a model in the terminal: `<<< ` asks, the answer streams. With piped input it prints the answers alone.

`clear` forgets the conversation, `exit` or Ctrl-D leaves, Ctrl-C stops an answer, `/help` tells the rest.
"""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

from runner.core.artifact import Artifact
from runner.core.errors import StageError
from runner.core.job import Job
from runner.core.schema import component
from runner.core.specs import Backend, Model, Sampling, Template


@component
class Chat:
    """A conversation in the terminal."""

    model: Model
    template: Template
    sampling: Sampling
    backend: Backend
    accepts: ClassVar[dict[str, tuple[str, ...]]] = {"model": ("model", "adapter")}
    reuse: ClassVar[str] = "never"
    interactive: ClassVar[bool] = True

    def produces(self) -> str:
        """Nothing that is kept."""
        return "none"

    def check(self, roots: Sequence[Path], key: str) -> None:
        """Refuse a model that is plainly not there."""
        from runner.backends import check

        check(self.backend, self.model, key, self.sampling)

    def run(self, job: Job) -> Artifact:
        """Load the model and talk until the input ends."""
        from runner.backends import choose, start
        from runner.core import registry
        from runner.stages._at_once import at_once
        from runner.stages._conversation import Conversation
        from runner.stages._dialogue import Dialogue
        from runner.stages._foreground import alone
        from runner.stages._screen import Screen

        screen = Screen(sys.stdin, sys.stdout, sys.stderr)
        screen.note(f"loading {self.model.id} ...")
        with at_once(job, "loading the model", told=False):  # who has the terminal next says so
            engine = start(self.backend, self.model, job.hub)
        judge = partial(registry.load("backends", choose(self.backend.name)).check, self.backend)
        try:
            dialogue = Dialogue(Conversation(engine, self.template, self.sampling, job.seed, judge), screen)
            with alone(sys.stdin), screen.listening():
                dialogue.talk()
        finally:
            engine.close()
        if screen.complaints and not screen.live:  # who reads the answers of a pipe sees no complaint
            raise StageError(f"{job.name}: {screen.complaints} of the lines that came in were not answered, see above.")
        return Artifact("none", str(job.folder), metrics={"answers": dialogue.answers})
