"""The whole command in this process, worker included, in a folder of a user's with a tiny model and a few good rows."""

import contextlib
import io
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runner import execute, worker
from runner.__main__ import main
from runner.core.job import PARENT_FD
from tests.tiny import tiny_model

RECIPE = """\
# A short training of a tiny model.
# @package _global_
name: mine
model: {id: tiny}
mix: {datasets: [rows.jsonl]}
max_length: 100
train_type: {kind: lora, lora: {rank: 2}}
batch: {rows: 4}
stages: {train: {kind: sft}}
"""
HEAD = "# Short.\n# @package _global_\nmodel: {id: tiny}\n"
ASK = HEAD + "name: asked\nsampling: {max_new_tokens: 2}\nstages: {ask: {kind: infer}}\n"
MERGE = HEAD + "name: merged\nstages: {merge: {kind: merge}}\n"


@dataclass
class User:
    """root: the working directory. tell: exit code and everything that a command prints to standard error."""

    root: Path
    tell: Callable[..., tuple[int, str]]

    def write(self, name: str, content: str | bytes) -> None:
        """Put a file there."""
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))


def talk(question: str, answer: str) -> str:
    """A row of one question and answer."""
    said = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": said}) + "\n"


GOOD = "".join(talk(f"What is {n}?", f"It is {n}.") for n in range(20))


@pytest.fixture(scope="session", name="tiny")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny chat model, made once."""
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(name="user")
def user_at_work(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Iterator[User]:
    """Recipes mine (sft), asked (infer) and merged (merge). Stages run in this process, by the worker's own main."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUNNER_CACHE", str(tmp_path / ".cache"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # no hub answers there
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:9")
    for name in ("HF_HOME", "MODELSCOPE_HOME"):  # logged in nowhere
        monkeypatch.setenv(name, str(tmp_path / ".home"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "MODELSCOPE_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(execute, "_batch", _in_process)
    monkeypatch.setattr(worker, "_die_with_parent", lambda: None)
    monkeypatch.setenv(PARENT_FD, "-1")  # so that it takes the parent's lock for its own
    shutil.copytree(tiny, tmp_path / "tiny")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def tell(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        code = main(list(words))
        return code, capsys.readouterr().err

    made = User(tmp_path, tell)
    made.write("rows.jsonl", GOOD)
    for name, text in {"mine": RECIPE, "asked": ASK, "merged": MERGE}.items():
        made.write(f"recipes/{name}.yaml", text)
    yield made
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _in_process(step: Any, terminal: Any, lock: int | None) -> tuple[int, list[str], bool]:
    """What the parent learns of a worker: its exit code and its last lines. What escapes the worker fails the test."""
    output = io.StringIO()
    before = dict(os.environ)
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        code = worker.main([str(step.folder)])
    os.environ.clear()
    os.environ.update(before)
    return code, output.getvalue().splitlines()[-execute.TAIL :], False
