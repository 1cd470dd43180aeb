"""A result file that a killed run goes on writing: rows in the order of the input, none twice, none lost, lines whole.

Answers come in any order. Each is kept at once in a journal in the stage's folder; as soon as a stretch of rows is
complete it is appended to the result, and `progress.json` says how far the result is known to be good. What a crash
left behind that mark is cut off; what failed and is not yet in the result is asked again. A result that other settings
or another upstream stage made is not gone on with.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.core.artifact import write_whole
from runner.core.errors import StageError
from runner.core.thoughts import split
from runner.core.types import Completion

PROGRESS, JOURNAL = "progress.json", "journal.jsonl"


@dataclass
class Results:
    """Writes a stage's rows.

    Args:
        file: the result. folder: the stage's, where the journal lies.
        mark: what decides the result; a result with another mark is made anew.
        total: input rows. size: rows that are appended together.
        lines: the lines of input row n, given its completions; it may give none.
    """

    file: Path
    folder: Path
    mark: str
    total: int
    size: int
    lines: Callable[[list[tuple[int, list[Completion]]]], list[dict[str, Any]]]
    written: int = 0  # input rows that are in the result
    _bytes: int = 0
    _ready: dict[int, list[Completion]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        state = self._state()
        if state is None:
            refuse_foreign(self.file, self.folder)
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.file.write_bytes(b"")
            (self.folder / JOURNAL).unlink(missing_ok=True)
            self._save()
        else:
            self.written, self._bytes = state["rows"], state["bytes"]
            os.truncate(self.file, self._bytes)
        kept = {row: made for row, made in self._journal() if row >= self.written}
        kept = {row: made for row, made in kept.items() if not any(completion.error for completion in made)}
        self._stream = open(self.folder / JOURNAL, "w", encoding="utf-8")  # noqa: SIM115 - closed by close()
        for row, made in kept.items():
            self.add(row, made)

    def missing(self) -> list[int]:
        """Input rows that have no answer yet."""
        return [row for row in range(self.written, self.total) if row not in self._ready]

    def add(self, row: int, completions: list[Completion]) -> None:
        """Keep the answers to an input row."""
        plain = [_plain(completion) for completion in completions]
        self._stream.write(json.dumps({"row": row, "completions": plain}, ensure_ascii=False) + "\n")
        self._stream.flush()
        self._ready[row] = completions
        self._append()

    def close(self) -> None:
        """End writing; the journal goes when the result is complete."""
        self._stream.close()
        if self.written == self.total:
            (self.folder / JOURNAL).unlink(missing_ok=True)

    def forget(self) -> None:
        """Begin anew the next time: nothing of it is an answer."""
        self.written = self._bytes = 0
        os.truncate(self.file, 0)
        self._save()

    def _append(self) -> None:
        """Append stretches of `size` rows, or the rest, once all their rows are there."""
        while self.written < self.total:
            end = min(self.written + self.size, self.total)
            if any(row not in self._ready for row in range(self.written, end)):
                return
            made = self.lines([(row, self._ready[row]) for row in range(self.written, end)])
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in made).encode()
            with open(self.file, "ab") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            self._bytes += len(text)
            for row in range(self.written, end):
                del self._ready[row]
            self.written = end
            self._save()

    def _save(self) -> None:
        state = {"mark": self.mark, "file": str(self.file), "rows": self.written, "bytes": self._bytes}
        write_whole(self.folder / PROGRESS, json.dumps(state, indent=2) + "\n")

    def _state(self) -> dict[str, Any] | None:
        """How far an earlier run of the same work got, if its result is still there."""
        if not (self.folder / PROGRESS).is_file():
            return None
        state: dict[str, Any] = json.loads((self.folder / PROGRESS).read_text(encoding="utf-8"))
        same = state["mark"] == self.mark and state["file"] == str(self.file)
        whole = self.file.is_file() and self.file.stat().st_size >= state["bytes"]
        return state if same and whole else None

    def _journal(self) -> list[tuple[int, list[Completion]]]:
        file = self.folder / JOURNAL
        found = []
        for line in file.read_bytes().split(b"\n")[:-1] if file.is_file() else []:  # a cut line has no end
            entry = json.loads(line)
            found.append((int(entry["row"]), [_completion(plain) for plain in entry["completions"]]))
        return found


def refuse_foreign(file: Path, folder: Path) -> None:
    """A file elsewhere that the stage of this folder did not make is somebody's work.

    Raises:
        StageError: such a file.
    """
    ours = file.parent == folder or (
        (folder / PROGRESS).is_file()
        and json.loads((folder / PROGRESS).read_text(encoding="utf-8"))["file"] == str(file)
    )
    if not ours and file.is_file() and file.stat().st_size:
        raise StageError(f"{file}: is there already, made by something else. Choose another path or remove it.")


def _plain(completion: Completion) -> dict[str, Any]:
    kept: tuple[str, ...] = ("text", "finish_reason", "prompt_tokens", "completion_tokens", "sample", "error")
    if completion.logprobs is not None:
        kept += ("token_ids", "logprobs")
    return {name: getattr(completion, name) for name in kept}


def _completion(plain: dict[str, Any]) -> Completion:
    lists: dict[str, Any] = {name: tuple(plain[name]) for name in ("token_ids", "logprobs") if name in plain}
    return Completion(**{**plain, **lists}, reasoning=split(plain["text"])[0])
