"""Asks an engine a stage's questions and writes completions.jsonl, going on where a killed run stopped.

A question that cannot be asked or answered becomes a row with its error; too many of them end the stage.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.backends import Ask, Engine, ListFeed
from runner.core import artifact
from runner.core.errors import DataError, Interrupted, StageError
from runner.core.job import Job
from runner.core.specs import Sampling, Template
from runner.core.types import Completion
from runner.data.carried import carried
from runner.data.render import without_modes
from runner.stages._at_once import at_once
from runner.stages._questions import Question, as_row
from runner.stages._results import Results

Keep = Callable[[Sequence[dict[str, Any]]], Sequence[dict[str, Any]]]


@dataclass(frozen=True)
class Asking:
    """How a stage asks.

    file: where the rows go. size: input rows that are appended together. max_errors: rows that may fail.
    inputs: folders that the answers depend on; what another stage makes anew is asked anew.
    keep: leaves rows out before they are written. again: whether what failed in an earlier run is asked again.
    """

    template: Template
    sampling: Sampling
    file: Path
    size: int = 1000
    max_errors: int = 10
    inputs: Sequence[str] = ()
    keep: Keep | None = None
    again: bool = True


@dataclass
class Speed:
    """Tokens made since the start, up to now or the end."""

    start: float = field(default_factory=time.monotonic)
    end: float | None = None
    tokens: int = 0

    def seconds(self) -> float:
        """How long it took, or takes by now."""
        return (self.end or time.monotonic()) - self.start

    def per_second(self) -> float:
        """Generated tokens a second."""
        return round(self.tokens / max(self.seconds(), 1e-9), 1)


def ask(job: Job, start: Callable[[], Engine], questions: Sequence[Question], asking: Asking) -> dict[str, Any]:
    """Answer all questions into `asking.file`.

    Args:
        start: makes the engine; called only when there is something left to ask.

    Returns:
        Figures of this process: seconds, tokens_per_s.

    Raises:
        StageError: more errors than allowed. Interrupted: the user stopped it; the same command goes on.
    """
    errors: list[str] = []

    def lines(answered: list[tuple[int, list[Completion]]]) -> list[dict[str, Any]]:
        made = [row for place, completions in answered for row in rows(questions[place], completions)]
        return list(asking.keep(made)) if asking.keep else made

    ids = [question.id for question in questions]
    results = Results(asking.file, job.folder, mark(job, asking.inputs), ids, asking.size, lines, asking.again)
    speed = Speed()
    try:
        missing = results.missing()
        if missing:
            if len(missing) < len(questions):
                failed = f", {len(results.failed)} failed and are asked again" if results.failed else ""
                print(
                    f"{len(questions) - len(missing)} of {len(questions)} questions are answered already{failed}",
                    flush=True,
                )
            _ask(job, start, questions, missing, asking, results, speed, errors)
    finally:
        results.close()
    return {"seconds": round(speed.seconds(), 1), "tokens_per_s": speed.per_second()}


def _ask(
    job: Job, start: Callable[[], Engine], questions: Sequence[Question], missing: Sequence[int], asking: Asking,
    results: Results, speed: Speed, errors: list[str],
) -> None:  # fmt: skip
    with at_once(job, "loading the model"):
        engine = start()
    mode = asking.template.thinking
    if without_modes(engine.tokenizer, mode):
        print(f"template.thinking: {mode} changes nothing, the chat template of this model has no modes", flush=True)
    done, hurt, lost = len(questions) - len(missing), list[int](), list[int]()  # without some answer, without any

    def take(row: int, completions: list[Completion]) -> None:
        nonlocal done
        results.add(row, completions)
        done += 1
        speed.tokens += sum(completion.completion_tokens for completion in completions)
        job.progress.update(done, len(questions), "questions", tokens_per_s=speed.per_second())
        failed = [completion.error.rstrip(".") for completion in completions if completion.error]
        errors.extend(f"{questions[row].id}: {error}" for error in failed)
        hurt.extend([row] if failed else [])
        lost.extend([row] if len(failed) == len(completions) else [])
        if len(hurt) > asking.max_errors:
            raise StageError(f"{len(hurt)} questions failed, more than max_errors. The first: {errors[0]}.")

    def stop_if_asked() -> None:
        if job.stopping():
            raise Interrupted(f"{job.name}: stopped at {done} of {len(questions)} questions")

    def asks() -> Iterator[Ask]:
        for row in missing:
            question = questions[row]
            try:
                prompt = engine.prompt(question.messages, asking.template, question.tools)
            except DataError as error:
                failed = [Completion("", None, "error", 0, 0, n, error=str(error)) for n in range(asking.sampling.n)]
                take(row, failed)
            else:
                yield Ask(row, prompt, question.seed(_seed(asking.sampling, job)))

    try:
        speed.start = time.monotonic()
        engine.work(ListFeed(asks(), stop_if_asked), asking.sampling, take)
        speed.end = time.monotonic()
    finally:
        engine.close()
    if errors and len(lost) == len(questions):
        results.forget()
        raise StageError(f"{job.name}: no question was answered, all {len(lost)} failed. The first: {errors[0]}.")
    if errors:
        print(
            f"{len(errors)} of {asking.sampling.n * len(missing)} answers failed. The first: {errors[0]}.", flush=True
        )


def _seed(sampling: Sampling, job: Job) -> int:
    return job.seed if sampling.seed is None else sampling.seed


def mark(job: Job, inputs: Sequence[str]) -> str:
    """What the answers depend on: the stage's fingerprint, and when each input folder was made."""
    made = [Path(name) / artifact.FILE for name in inputs]
    return " ".join([job.fingerprint, *(str(file.stat().st_mtime_ns) for file in made if file.is_file())])


def rows(question: Question, completions: Sequence[Completion]) -> list[dict[str, Any]]:
    """A question's lines of completions.jsonl, one a sample."""
    made = []
    for completion in completions:
        said = [] if completion.error else [{"role": "assistant", "content": completion.text}]
        row = {
            "id": question.id,
            "messages": [*map(as_row, question.messages), *said],
            "response": completion.text,
            "reasoning": completion.reasoning,
            "reference": question.reference,
            "finish_reason": completion.finish_reason,
            "prompt_tokens": completion.prompt_tokens,
            "completion_tokens": completion.completion_tokens,
            "sample": completion.sample,
            **({"error": completion.error} if completion.error else {}),
            **tokens(completion),
        }
        made.append({**row, **carried(question.columns, row)})
    return made


def tokens(completion: Completion) -> dict[str, list[float]]:
    """The tokens and their log-probabilities, where these were asked for; no tokens where only a server knows them."""
    if completion.logprobs is None:
        return {}
    return {"token_ids": list(completion.token_ids), "logprobs": list(completion.logprobs)}


def figures(written: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Statistics of the rows of a completions file."""
    answered = [row for row in written if row["finish_reason"] != "error"]
    return {
        "rows": len(written),
        "prompt_tokens": sum(row["prompt_tokens"] for row in answered),
        "completion_tokens": sum(row["completion_tokens"] for row in answered),
        "truncated": sum(row["finish_reason"] == "length" for row in answered),
        "errors": len(written) - len(answered),
    }
