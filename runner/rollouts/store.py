"""What rollouts leave in the stage's folder: completions.jsonl, an object an answer, and each rollout whole, until the
updates that learn from it are in a checkpoint: a training that was killed between them goes on from the same answers.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from runner.core.artifact import write_whole
from runner.data.carried import LEFT_OUT, carried
from runner.rollouts.answers import Answer, Prompt, Rollout, from_plain
from runner.rollouts.figures import Facts

FILE, FOLDER = "completions.jsonl", "rollouts"
WIDEST = 32 * 1024  # characters of a column, as JSON, that each answer's line still carries
FACTS = "facts.jsonl"  # in FOLDER: of each rollout what alerts look at, so that they know the start after any stop


class Store:
    """The files of a training's rollouts. mark: of what the answers depend on."""

    def __init__(self, folder: Path, mark: str) -> None:
        self.folder, self.mark = folder, mark

    def keep(self, rollout: Rollout) -> None:
        """Write it whole."""
        (self.folder / FOLDER).mkdir(exist_ok=True)
        text = json.dumps({"mark": self.mark, **vars(rollout)}, default=vars)  # asdict would copy every token first
        write_whole(self._file(rollout.number), text + "\n")

    def kept(self, number: int) -> Rollout | None:
        """The rollout of that number, if it is there and was made by the same settings."""
        try:
            held = json.loads(self._file(number).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return from_plain(held) if held.get("mark") == self.mark else None

    def forget(self, first: int, last: int | None = None) -> None:
        """Remove the rollouts from `first` up to before `last`; to the end when None."""
        for file in (self.folder / FOLDER).glob("*.json"):
            number = int(file.stem) if file.stem.isdigit() else -1
            if number >= first and (last is None or number < last):
                file.unlink(missing_ok=True)

    def _file(self, number: int) -> Path:
        return self.folder / FOLDER / f"{number}.json"

    def write(self, update: int, rollout: Rollout, prompts: Sequence[Prompt]) -> None:
        """Append a rollout's answers to completions.jsonl in one write."""
        answers = [answer for group in rollout.groups for answer in group]
        append(self.folder / FILE, [line(update, answer, prompts[answer.prompt]) for answer in answers])

    def note(self, update: int, known: Facts) -> None:
        """Append a rollout's facts."""
        append(self.folder / FOLDER / FACTS, [{"update": update, **vars(known)}])

    def noted(self) -> Iterator[tuple[int, Facts]]:
        """The update (from 1) that each rollout begins with and its facts, as far as there are any."""
        file = self.folder / FOLDER / FACTS
        for text in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
            held = json.loads(text)
            yield held.pop("update"), Facts(**held)

    def cut_back(self, update: int) -> None:
        """Drop the answers and facts of rollouts that begin after `update`."""
        cut_back(self.folder / FILE, update)
        cut_back(self.folder / FOLDER / FACTS, update)


def append(file: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Append answers in one write."""
    text = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in lines)
    with open(file, "ab") as stream:
        stream.write(text.encode())


def cut_back(file: Path, update: int) -> None:
    """Drop a file's answers of updates after `update`, and a last line that a crash left half."""
    if not file.is_file():
        return
    kept = 0
    with open(file, "rb") as stream:
        for row in _whole(stream):
            if row[1] > update:
                break
            kept = row[0]
    os.truncate(file, kept)


def _whole(stream: Any) -> Iterator[tuple[int, int]]:
    """Of each whole line where it ends and its update."""
    end = 0
    for text in stream:
        try:
            update = int(json.loads(text)["update"])
        except (ValueError, KeyError):
            return
        if not text.endswith(b"\n"):
            return
        end += len(text)
        yield end, update


def line(update: int, answer: Answer, prompt: Prompt) -> dict[str, Any]:
    """A line of completions.jsonl; update counts from 1 and is the first one that learns from the answer.

    It ends with the row's columns, so that answers can be scored again. One that is wider than WIDEST is only named: it
    would be written again with each answer of each update.
    """
    made = answer.completion
    row = {
        "update": update,
        "id": prompt.id,
        "sample": answer.sample,
        "messages": [*prompt.messages, {"role": "assistant", "content": made.text}],
        "response": made.text,
        "reasoning": made.reasoning,
        "rewards": dict(answer.scores),
        "reward": answer.total,
        "advantage": answer.advantage,
        "masked": answer.masked,
        "given": answer.given,
        "finish_reason": made.finish_reason,
        "prompt_tokens": made.prompt_tokens,
        "completion_tokens": made.completion_tokens,
        "seconds": answer.seconds,
    }
    return {**row, **carried(prompt.columns, row, WIDEST)}


def left_out(prompt: Prompt) -> list[str]:
    """The columns of a prompt that lines do not carry."""
    return list(carried(prompt.columns, (), WIDEST).get(LEFT_OUT, ()))
