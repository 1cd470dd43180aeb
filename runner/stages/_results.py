"""A result file that a killed run goes on writing: rows in the order of the input, none twice, none lost, lines whole.

Answers come in any order. Each is kept at once in a journal in the stage's folder; as soon as a stretch of rows is
complete it is appended to the result, and `progress.json` says how far the result is known to be good. What a crash
left behind that mark is cut off. What failed is asked again; where it stands in the result already, its lines are
replaced at once when all of it has been asked. A result that other settings or another upstream stage made is not gone
on with.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from runner.core.artifact import place, write_whole
from runner.core.errors import StageError
from runner.core.thoughts import split
from runner.core.types import Completion

PROGRESS, JOURNAL = "progress.json", "journal.jsonl"
OWN = {JOURNAL, "metrics.jsonl"}  # what else the stage's folder holds


@dataclass
class Results:
    """Writes a stage's rows.

    Args:
        file: the result. folder: the stage's, where the journal lies.
        mark: what decides the result; a result with another mark is made anew.
        ids: of the input rows, as the lines hold them. size: rows that are appended together.
        lines: the lines of input row n, given its completions; it may give none.
        again: whether failed rows in a result that is gone on with are asked again.
    """

    file: Path
    folder: Path
    mark: str
    ids: Sequence[str]
    size: int
    lines: Callable[[list[tuple[int, list[Completion]]]], list[dict[str, Any]]]
    again: bool = True
    written: int = 0  # input rows that are in the result
    failed: set[int] = field(default_factory=set)  # those of them that are asked again
    _bytes: int = 0
    _ready: dict[int, list[Completion]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        state = self._state()
        if state is None or self.folder / state["file"] != self.file:
            refuse_foreign(self.file, self.folder)
        self._alone = self._held()
        if state is None:
            self.file.write_bytes(b"")
            (self.folder / JOURNAL).unlink(missing_ok=True)
            self._save()
        else:
            self.written, self._bytes = state["rows"], state["bytes"]
            if self.folder / state["file"] != self.file:
                self._move(self.folder / state["file"])
            os.truncate(self.file, self._bytes)
            self.failed = self._failed() if self.again else set()
        kept = {row: made for row, made in self._journal() if row >= self.written or row in self.failed}
        kept = {row: made for row, made in kept.items() if not any(completion.error for completion in made)}
        write_whole(self.folder / JOURNAL, "".join(_entry(row, made) for row, made in kept.items()))
        self._stream = open(self.folder / JOURNAL, "a", encoding="utf-8")  # noqa: SIM115 - closed by close()
        for row, made in kept.items():
            self._take(row, made)

    def _held(self) -> BinaryIO:
        """The result, locked by the kernel as long as it is open: two runs that append to one file spoil it.

        Raises:
            StageError: another run has it.
        """
        self.file.parent.mkdir(parents=True, exist_ok=True)
        stream = open(self.file, "ab")  # noqa: SIM115 - closed by close()
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.close()
            raise StageError(
                f"{self.file}: another run writes its answers there. Wait for it, or choose another path."
            ) from None
        except OSError:  # a file system without locks
            pass
        return stream

    def _move(self, before: Path) -> None:
        """What is known to be good goes to the place that `result_path` names now; the old file stays."""
        with open(before, "rb") as old, open(self.file, "wb") as new:
            new.write(old.read(self._bytes))
            new.flush()
            os.fsync(new.fileno())
        self._save()
        print(f"{self.file}: begins with the answers of {before}", flush=True)

    def missing(self) -> list[int]:
        """Input rows that have no answer yet."""
        wanted = [*sorted(self.failed), *range(self.written, len(self.ids))]
        return [row for row in wanted if row not in self._ready]

    def add(self, row: int, completions: list[Completion]) -> None:
        """Keep the answers to an input row."""
        self._stream.write(_entry(row, completions))
        self._stream.flush()
        self._take(row, completions)

    def _take(self, row: int, completions: list[Completion]) -> None:
        self._ready[row] = completions
        if row in self.failed:
            self._mend()
        self._append()

    def close(self) -> None:
        """End writing; the journal goes when the result is complete."""
        self._stream.close()
        self._alone.close()
        if self.written == len(self.ids) and not self.failed:
            (self.folder / JOURNAL).unlink(missing_ok=True)

    def forget(self) -> None:
        """Begin anew the next time: nothing of it is an answer."""
        self.written = self._bytes = 0
        os.truncate(self.file, 0)
        self._save()

    def _append(self) -> None:
        """Append stretches of `size` rows, or the rest, once all their rows are there."""
        while self.written < len(self.ids):
            end = min(self.written + self.size, len(self.ids))
            if any(row not in self._ready for row in range(self.written, end)):
                return
            made = self.lines([(row, self._ready[row]) for row in range(self.written, end)])
            text = _text(made)
            with open(self.file, "ab") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            self._bytes += len(text)
            for row in range(self.written, end):
                del self._ready[row]
            self.written = end
            self._save()

    def _failed(self) -> set[int]:
        """Rows in the result that have an error."""
        known = {name: row for row, name in enumerate(self.ids[: self.written])}
        lines = (json.loads(line) for line in self._lines() if b'"error"' in line)
        return {known[line["id"]] for line in lines if line["finish_reason"] == "error" and line["id"] in known}

    def _lines(self) -> Iterator[bytes]:
        with open(self.file, "rb") as stream:
            yield from stream

    def _mend(self) -> None:
        """Replace the lines of failed rows, once all of these have been asked again.

        The new file is made whole beside the old one; `then` tells a run that comes after a kill which of them it sees.
        """
        if any(row not in self._ready for row in self.failed):
            return
        answers: dict[str, list[dict[str, Any]]] = {self.ids[row]: [] for row in self.failed}
        for line in self.lines([(row, self._ready.pop(row)) for row in sorted(self.failed)]):
            answers[line["id"]].append(line)
        side = self.file.with_name(f".{self.file.name}.again")
        with open(side, "wb") as stream:
            for old in self._lines():
                name = json.loads(old)["id"]
                stream.write(_text(answers[name]) if name in answers else old)
                answers.update({name: []} if name in answers else {})
            stream.flush()
            os.fsync(stream.fileno())
        size = side.stat().st_size
        self._save(then=size)
        os.replace(side, self.file)
        self._alone.close()
        self._alone = self._held()
        self.failed, self._bytes = set(), size
        self._save()

    def _save(self, **more: int) -> None:
        held = {"file": place(self.file, self.folder), "rows": self.written, "bytes": self._bytes}
        state = {"mark": self.mark, **held, **more}
        write_whole(self.folder / PROGRESS, json.dumps(state, indent=2) + "\n")

    def _state(self) -> dict[str, Any] | None:
        """How far an earlier run of the same work got, if its result is still there."""
        if not (self.folder / PROGRESS).is_file():
            return None
        state: dict[str, Any] = json.loads((self.folder / PROGRESS).read_text(encoding="utf-8"))
        held = self.folder / state["file"]
        size = held.stat().st_size if held.is_file() else -1
        if size == state.get("then"):
            state["bytes"] = size
        return state if state["mark"] == self.mark and size >= state["bytes"] else None

    def _journal(self) -> list[tuple[int, list[Completion]]]:
        file = self.folder / JOURNAL
        found = []
        for line in file.read_bytes().split(b"\n")[:-1] if file.is_file() else []:  # a cut line has no end
            entry = json.loads(line)
            found.append((int(entry["row"]), [_completion(plain) for plain in entry["completions"]]))
        return found


def refuse_foreign(file: Path, folder: Path) -> None:
    """A file elsewhere that the stage of this folder did not make is somebody's work; those by which it works are none
    for answers.

    Raises:
        StageError: such a file.
    """
    if file.parent == folder and file.name in OWN:
        raise StageError(f"{file}: the run keeps something else there. Choose another path.")
    ours = file.parent == folder or (
        (folder / PROGRESS).is_file()
        and folder / json.loads((folder / PROGRESS).read_text(encoding="utf-8"))["file"] == file
    )
    if not ours and file.is_file() and file.stat().st_size:
        raise StageError(f"{file}: is there already, made by something else. Choose another path or remove it.")


def _text(lines: Sequence[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()


def _entry(row: int, completions: list[Completion]) -> str:
    """A line of the journal."""
    plain = [_plain(completion) for completion in completions]
    return json.dumps({"row": row, "completions": plain}, ensure_ascii=False) + "\n"


def _plain(completion: Completion) -> dict[str, Any]:
    kept: tuple[str, ...] = ("text", "finish_reason", "prompt_tokens", "completion_tokens", "sample", "error")
    if completion.logprobs is not None:
        kept += ("token_ids", "logprobs")
    return {name: getattr(completion, name) for name in kept}


def _completion(plain: dict[str, Any]) -> Completion:
    lists: dict[str, Any] = {name: tuple(plain[name]) for name in ("token_ids", "logprobs") if name in plain}
    return Completion(**{**plain, **lists}, reasoning=split(plain["text"])[0])
