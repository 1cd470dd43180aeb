"""Answers a set of prompts and writes them as a dataset: batch inference, and distillation of a teacher's answers.

The result is `completions.jsonl` in the stage's folder, or `result_path`. A killed run goes on where it stopped.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge

from runner.core.artifact import Artifact
from runner.core.errors import ConfigError, StageError
from runner.core.job import Job
from runner.core.schema import EXECUTION, component
from runner.core.specs import Backend, Count, Dataset, Model, Parallelism, Reward, Sampling, Template, Variables


@component
class Infer:
    """Answers to prompts, as a dataset.

    prompts: datasets; a last assistant turn is kept as the reference. questions: plain questions of your own.
    result_path: where the rows go, instead of the stage's folder. write_batch_size: rows appended together.
    truncated: keep or drop answers that reached max_new_tokens. min_reward: keep only answers whose weighted rewards
    reach it. max_errors: questions that may fail. retry_failed: whether these are asked again: in a finished stage too
    (true), in an unfinished one (null), never (false). show: answers that are printed.
    """

    model: Model
    template: Template
    sampling: Sampling
    backend: Backend
    parallelism: Parallelism
    hub: str = "modelscope"
    reward: dict[str, Reward] = dataclasses.field(default_factory=dict)
    variables: Variables = dataclasses.field(default_factory=dict)
    prompts: list[str | Dataset] = dataclasses.field(default_factory=list)
    questions: list[str] = dataclasses.field(default_factory=list)
    result_path: Annotated[str | None, EXECUTION] = None
    write_batch_size: Annotated[Count, EXECUTION] = 1000
    truncated: Literal["keep", "drop"] = "keep"
    min_reward: float | None = None
    max_errors: Annotated[Annotated[int, Ge(0)], EXECUTION] = 10
    retry_failed: Annotated[bool | None, EXECUTION] = None
    show: Annotated[Annotated[int, Ge(0)], EXECUTION] = 3
    accepts: ClassVar[dict[str, tuple[str, ...]]] = {"model": ("model", "adapter"), "prompts": ("completions",)}
    inherits: ClassVar[dict[str, str]] = {"variables": "mix.variables"}
    reuse: ClassVar[str] = "always"
    interactive: ClassVar[bool] = False
    replicates: ClassVar[bool] = True

    def produces(self) -> str:
        """A dataset of completions."""
        return "completions"

    def check(self, roots: Sequence[Path], key: str) -> None:
        """Refuse a stage without questions, and what is plainly not there."""
        from runner.backends import check as check_backend
        from runner.scoring.arguments import check as check_rewards
        from runner.stages._again import check as check_again
        from runner.stages._completions import check_place
        from runner.stages._questions import WRITTEN, refuse_own
        from runner.stages._questions import check as check_questions

        if self.result_path is not None:
            check_place(self.result_path, f"{key}.result_path")
        check_backend(self.backend, self.model, key, self.sampling)
        check_again(self.retry_failed, self.parallelism, key)
        columns = check_questions(self.prompts, self.questions, self.variables, roots, key, self.hub)
        if self.min_reward is not None:
            if not self.reward:
                raise ConfigError(
                    f"{key}.min_reward", "needs a reward to compare with", "Choose one: reward=[contains]."
                )
            check_rewards(self.reward, roots, f"{key}.reward", None if columns is None else columns | {*WRITTEN})
            refuse_own(self.reward, roots, f"{key}.reward", columns)

    def reusable(self, made: Artifact, name: str) -> tuple[str, str]:
        """Whether it is run or reused once it is complete, and why."""
        from runner.stages._again import judged

        if self.result_path is not None:
            before, now = Path(made.path), Path(self.result_path).expanduser().resolve()
            if before != now:
                return "run", f"result_path: {before} -> {now}"
        return judged(self.retry_failed, made, name)

    def run(self, job: Job) -> Artifact:
        """Answer, write, count."""
        from runner.backends import start
        from runner.scoring.arguments import columns_of
        from runner.stages._answers import Asking, figures
        from runner.stages._at_once import at_once
        from runner.stages._completions import FILE, name_of, question_of, read
        from runner.stages._filter import Filter
        from runner.stages._questions import gather
        from runner.stages._shards import asked

        with at_once(job, "reading the questions"):
            questions = gather(self.prompts, self.questions, self.variables, job.seed, job.hub, job.roots)
        file = Path(self.result_path).expanduser().resolve() if self.result_path else job.folder / FILE
        columns = columns_of({**one.columns, "reference": one.reference} for one in questions)
        with Filter(self.truncated, self.min_reward, self.reward, job.roots, columns) as keep:
            asking = Asking(
                self.template, self.sampling, file, self.write_batch_size, self.max_errors,
                [self.model.id, self.model.adapter or "", *map(name_of, self.prompts)], keep,
                again=self.retry_failed is not False,
            )  # fmt: skip
            engine = partial(start, self.backend, self.model, job.hub, self.parallelism.gpus)
            speed = asked(job, engine, questions, asking, self.parallelism)
        if speed is None:  # another node than the first
            return Artifact("completions", str(file))
        written = read(file)
        if not written:
            raise StageError(
                f"{job.name}: all {len(questions) * self.sampling.n} answers were left out, as they were cut off or "
                "below min_reward. Raise sampling.max_new_tokens, lower min_reward, or say truncated: keep."
            )
        for row in written[: self.show]:
            print(f"<<< {question_of(row)}\n{row['response']}\n", flush=True)
        metrics = {**figures(written), **speed}
        metrics["dropped"] = len(questions) * self.sampling.n - len(written)
        if metrics["dropped"]:
            print(f"{metrics['dropped']} of {len(questions) * self.sampling.n} answers were left out", flush=True)
        return Artifact("completions", str(file), metrics=metrics)
