"""What is asked again: questions that failed, also after a kill in the middle of it, and none that was answered before
a run was moved or killed.
"""

import contextlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.backends.transformers import Transformers
from runner.core.errors import DataError, Interrupted, StageError
from runner.stages import _results
from runner.stages._results import Results
from tests.stages.test_infer import After, dataset, infer, job, lines
from tests.tiny import tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model."""
    return tiny_model(tmp_path_factory.mktemp("tiny"), "qwen3", "thinker")


@contextlib.contextmanager
def refusing(monkeypatch: pytest.MonkeyPatch, rows: Collection[int]) -> Iterator[None]:
    """An engine that fails the questions of some rows."""
    prompt = Transformers.prompt

    def some(self: Transformers, messages: Any, *rest: Any) -> Any:
        if int(messages[-1].content.split()[0]) in rows:
            raise DataError("is refused")
        return prompt(self, messages, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Transformers, "prompt", some)
        yield


@pytest.mark.parametrize("samples", [1, 2])
def test_failed_questions_are_asked_again_when_that_is_asked_for(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, samples: int
) -> None:
    """Of a finished stage, by the same command with retry_failed: the file is then that of a run without failures."""
    rows = dataset(tmp_path / "rows.jsonl", 12)
    sampling = {"max_new_tokens": 8, "temperature": 1.0, "n": samples}
    keys: dict[str, Any] = {"prompts": [str(rows)], "write_batch_size": 2, "max_errors": 20, "sampling": sampling}
    (tmp_path / "whole").mkdir()
    whole = lines(Path(infer(folder, **keys).run(job(tmp_path / "whole")).path))
    with refusing(monkeypatch, (0, 5, 11)):
        made = infer(folder, **keys).run(job(tmp_path))
    assert made.metrics["errors"] == 3 * samples
    found = infer(folder, **keys, retry_failed=False).run(job(tmp_path))
    assert found.metrics["errors"] == 3 * samples  # nothing is asked
    assert infer(folder, **keys).reusable(made, "ask")[0] == "reuse"
    stage = infer(folder, **keys, retry_failed=True)
    assert stage.reusable(made, "ask") == ("run", f"{3 * samples} answers failed, asked again")
    with refusing(monkeypatch, (5,)):  # still fails
        assert stage.run(job(tmp_path)).metrics["errors"] == samples
    assert [row["id"] for row in lines(tmp_path / "ask" / "completions.jsonl")] == [row["id"] for row in whole]
    assert stage.run(job(tmp_path)).metrics["errors"] == 0
    assert lines(tmp_path / "ask" / "completions.jsonl") == whole
    assert sorted(file.name for file in (tmp_path / "ask").iterdir()) == ["completions.jsonl", "progress.json"]


def test_a_run_that_stopped_asks_again_what_failed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What failed before the stop, in the result already, is asked with the rest; a filter leaves out what it must."""
    rows = dataset(tmp_path / "rows.jsonl", 12)
    keys: dict[str, Any] = {"prompts": [str(rows)], "write_batch_size": 2, "truncated": "drop"}
    keys["backend"] = {"name": "transformers", "batch_tokens": 150}
    keys["sampling"] = {"max_new_tokens": 8, "temperature": 1.0, "stop": ["e", "a"]}
    (tmp_path / "whole").mkdir()
    whole = lines(Path(infer(folder, **keys).run(job(tmp_path / "whole")).path))
    assert 0 < len(whole) < 12
    with refusing(monkeypatch, range(9)), pytest.raises(StageError, match="7 questions failed, more than max_errors"):
        infer(folder, **keys, max_errors=6).run(job(tmp_path))
    assert len(lines(tmp_path / "ask" / "completions.jsonl")) == 6
    made = infer(folder, **keys).run(job(tmp_path))
    assert lines(Path(made.path)) == whole and made.metrics["errors"] == 0


@pytest.mark.parametrize("moment", ["before", "between", "after"])
def test_a_kill_while_failed_rows_are_replaced(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """The old file or the new one stands, and the next run knows which."""
    rows = dataset(tmp_path / "rows.jsonl", 8)
    keys: dict[str, Any] = {"prompts": [str(rows)], "write_batch_size": 2}
    (tmp_path / "whole").mkdir()
    whole = lines(Path(infer(folder, **keys).run(job(tmp_path / "whole")).path))
    with refusing(monkeypatch, (1, 2)):
        infer(folder, **keys).run(job(tmp_path))
    replace, save = os.replace, Results._save

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if moment == "before":
            synced = iter([True])  # the journal, when the run begins
            patch.setattr(_results.os, "fsync", lambda handle: next(synced, None) or killed())
        elif moment == "between":
            patch.setattr(_results.os, "replace", lambda a, b: killed() if ".again" in str(a) else replace(a, b))
        else:
            patch.setattr(Results, "_save", lambda self, **more: save(self, **more) if more else killed())
        with pytest.raises(KeyboardInterrupt):
            infer(folder, **keys).run(job(tmp_path))
    made = infer(folder, **keys).run(job(tmp_path))
    assert lines(Path(made.path)) == whole


def test_a_run_that_was_moved_keeps_its_answers(folder: Path, tmp_path: Path) -> None:
    """They were looked for where they had been, and all asked anew."""
    rows = dataset(tmp_path / "rows.jsonl")
    few = {"name": "transformers", "batch_tokens": 300}
    stage = infer(folder, prompts=[str(rows)], write_batch_size=4, backend=few)
    (tmp_path / "old").mkdir()
    with pytest.raises(Interrupted):
        stage.run(After(15).job(tmp_path / "old"))
    (tmp_path / "old").rename(tmp_path / "new")
    with pytest.raises(Interrupted) as stopped:
        stage.run(After(1).job(tmp_path / "new"))
    assert int(str(stopped.value).split()[3]) > 15  # of 30 questions


def test_a_kill_while_a_run_begins_to_go_on_loses_no_answer(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal was emptied before its answers were written again."""
    few = {"name": "transformers", "batch_tokens": 300}
    stage = infer(folder, prompts=[str(dataset(tmp_path / "rows.jsonl"))], backend=few)
    with pytest.raises(Interrupted):
        stage.run(After(7).job(tmp_path))
    before = (tmp_path / "ask" / "journal.jsonl").read_bytes()
    assert before.count(b"\n") >= 7

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_results, "_plain", killed)
        with pytest.raises(KeyboardInterrupt) as stopped:
            stage.run(job(tmp_path))
    assert (tmp_path / "ask" / "journal.jsonl").read_bytes() == before
    (results,) = [entry.locals["self"] for entry in stopped.traceback if entry.name == "__post_init__"]
    results._alone.close()
