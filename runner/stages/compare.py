"""Two evaluations side by side: the scores of both, and the same questions answered before and after.

Prints a few questions of each source and writes them all to comparison.md and comparison.jsonl.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

from annotated_types import Ge

from runner.core.artifact import Artifact, write_whole
from runner.core.errors import DataError
from runner.core.job import Job
from runner.core.schema import EXECUTION, component


@component
class Compare:
    """What changed between two models' answers to the same questions.

    before, after: evaluate or infer stages, or folders of them. show: questions of each source that are printed.
    """

    before: str
    after: str
    show: Annotated[Annotated[int, Ge(0)], EXECUTION] = 5
    accepts: ClassVar[dict[str, tuple[str, ...]]] = {
        "before": ("scores", "completions"),
        "after": ("scores", "completions"),
    }
    reuse: ClassVar[str] = "always"
    interactive: ClassVar[bool] = False

    def produces(self) -> str:
        """Nothing that another stage takes."""
        return "none"

    def check(self, roots: Sequence[Path], key: str) -> None:
        """Nothing to refuse before the stages have run."""

    def run(self, job: Job) -> Artifact:
        """Pair, print, write."""
        from runner.stages import _comparison

        before, after = _comparison.answers(self.before), _comparison.answers(self.after)
        pairs = _comparison.pairs(before, after)
        if not pairs:
            raise DataError(
                f"{self.before} and {self.after} answer no question in common. Compare stages with the same prompts."
            )
        text = "".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs)
        write_whole(job.folder / "comparison.jsonl", text)
        write_whole(job.folder / "comparison.md", _comparison.markdown(pairs))
        metrics: dict[str, Any] = {"questions": len(pairs), **_comparison.figures(pairs)}
        _comparison.show(pairs, self.show)
        return Artifact("none", str(job.folder / "comparison.md"), metrics=metrics)
