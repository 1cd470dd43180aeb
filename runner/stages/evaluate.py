"""Answers a set of questions and scores the answers by reward plugins: scores.jsonl, a row an answer, and figures with
their 95% intervals, over all and by source file. Answers that are there already (`completions`) are scored as they are.
"""

import dataclasses
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar

from annotated_types import Ge

from runner.core.artifact import Artifact, write_whole
from runner.core.errors import ConfigError
from runner.core.job import Job
from runner.core.schema import EXECUTION, component
from runner.core.specs import Backend, Count, Dataset, Model, Parallelism, Reward, Sampling, Share, Template, Variables


@component
class Evaluate:
    """Scores of a model's answers.

    prompts: datasets, whose columns the rewards read. completions: a file, run or stage of answers to score instead.
    pass_at: each k for which pass@k is told, of scores that are 0 or 1. max_failed: share of answers on which a reward
    may fail. max_errors: questions that may fail. retry_failed: whether these are asked again: in a finished stage too
    (true), in an unfinished one (null), never (false).
    """

    model: Model
    template: Template
    sampling: Sampling
    backend: Backend
    parallelism: Parallelism
    hub: str = "modelscope"
    reward: dict[str, Reward]
    variables: Variables = dataclasses.field(default_factory=dict)
    prompts: list[str | Dataset] = dataclasses.field(default_factory=list)
    completions: str | None = None
    write_batch_size: Annotated[Count, EXECUTION] = 1000
    pass_at: list[Count] = dataclasses.field(default_factory=list)
    max_failed: Annotated[Share, EXECUTION] = 0.1
    max_errors: Annotated[Annotated[int, Ge(0)], EXECUTION] = 10
    retry_failed: Annotated[bool | None, EXECUTION] = None
    accepts: ClassVar[dict[str, tuple[str, ...]]] = {
        "model": ("model", "adapter"),
        "prompts": ("completions",),
        "completions": ("completions",),
    }
    inherits: ClassVar[dict[str, str]] = {"variables": "mix.variables"}
    reuse: ClassVar[str] = "always"
    interactive: ClassVar[bool] = False
    replicates: ClassVar[bool] = True

    def produces(self) -> str:
        """Scores."""
        return "scores"

    def check(self, roots: Sequence[Path], key: str) -> None:
        """Refuse a stage without questions or rewards, and columns that the data lacks."""
        from runner.backends import check as check_backend
        from runner.scoring.arguments import check as check_rewards
        from runner.stages._again import check as check_again
        from runner.stages._questions import check as check_questions
        from runner.stages._questions import refuse_own

        if not self.reward:
            raise ConfigError(f"{key}.reward", "no reward to score with", "Choose one: reward=[contains].")
        for k in self.pass_at:
            if k > self.sampling.n:
                raise ConfigError(
                    f"{key}.pass_at", f"pass@{k} needs {k} answers a question", f"sampling.n={k} or more."
                )
        check_again(self.retry_failed, self.parallelism, key)
        columns = None
        if self.completions is None:
            check_backend(self.backend, self.model, key, self.sampling)
            columns = check_questions(self.prompts, [], self.variables, roots, key, self.hub)
        check_rewards(self.reward, roots, f"{key}.reward", columns)
        refuse_own(self.reward, roots, f"{key}.reward", columns)

    def reusable(self, made: Artifact, name: str) -> tuple[str, str]:
        """Whether it is run or reused once it is complete, and why."""
        from runner.stages._again import judged

        return ("reuse", "complete") if self.completions else judged(self.retry_failed, made, name)

    def run(self, job: Job) -> Artifact:
        """Answer, score, summarize."""
        from runner.scoring.rewards import Rewards
        from runner.stages import _completions, _scores
        from runner.stages._at_once import at_once
        from runner.stages._scoring import score

        speed, file, sources = self._answers(job)
        if speed is None:  # another node than the first
            return Artifact("scores", str(job.folder / _scores.FILE))
        held = _completions.named(_completions.given(file))
        rows = [{**row, "source": sources.get(row["id"], row.get("source", file.name))} for row in held]
        with at_once(job, "scoring"), Rewards(self.reward, job.roots, self.max_failed) as rewards:
            found = score(rewards, rows)
        lines = [_scores.line(row, scores, total) for row, (scores, total) in zip(rows, found, strict=True)]
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        write_whole(job.folder / _scores.FILE, text)
        metrics: dict[str, Any] = _scores.figures(lines, list(self.reward), self.pass_at)
        for told in _scores.told(metrics, list(self.reward)):
            print(told, flush=True)
        return Artifact("scores", str(job.folder / _scores.FILE), metrics={**metrics, **speed})

    def _answers(self, job: Job) -> tuple[dict[str, Any] | None, Path, dict[str, str]]:
        """The answers to score, asked now unless they were given, and the source of each question by its id."""
        from runner.backends import start
        from runner.stages._answers import Asking
        from runner.stages._at_once import at_once
        from runner.stages._completions import FILE, located, name_of
        from runner.stages._questions import gather
        from runner.stages._shards import asked

        if self.completions is not None:
            return {}, located(self.completions), {}
        with at_once(job, "reading the questions"):
            questions = gather(self.prompts, [], self.variables, job.seed, job.hub, job.roots)
        file = job.folder / FILE
        inputs = [self.model.id, self.model.adapter or "", *map(name_of, self.prompts)]
        asking = Asking(
            self.template, self.sampling, file, self.write_batch_size, self.max_errors, inputs,
            again=self.retry_failed is not False,
        )  # fmt: skip
        engine = partial(start, self.backend, self.model, job.hub, self.parallelism.gpus)
        speed = asked(job, engine, questions, asking, self.parallelism)
        return speed, file, {question.id: question.source for question in questions}
