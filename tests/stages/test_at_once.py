"""A request to stop ends work in its middle: the sentence, what it started, and the handlers of before."""

import dataclasses
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from safetensors.torch import save

from runner.core.errors import Interrupted
from runner.core.job import Job
from runner.stages._at_once import at_once
from tests.tiny import tiny_model

JOB = Job("ask", Path("."), Path("."))
SLOW = """
import os, time
print("loading", flush=True)
try:
    time.sleep(60)
except BaseException:  # as C++ does where it loads a library
    os.abort()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("swallowed", [False, True])
def test_what_is_half_done_ends_with_what_it_started(number: signal.Signals, swallowed: bool) -> None:
    """Also where the library that was at work turns every exception into its own, or into none."""
    before = signal.getsignal(number)
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    begun = time.monotonic()
    with pytest.raises(Interrupted, match="^ask: stopped while loading the model$"), at_once(JOB, "loading the model"):
        process.start()
        threading.Timer(0.2, signal.pthread_kill, (threading.get_ident(), number)).start()  # not any thread
        try:
            time.sleep(60)
        except BaseException as error:
            if not swallowed:
                raise RuntimeError("the engine could not start") from error
    process.join()
    assert time.monotonic() - begun < 2 and process.exitcode == -signal.SIGKILL
    assert signal.getsignal(number) is before


def test_other_errors_pass_and_an_earlier_request_counts() -> None:
    """What is asked before the block begins keeps it from beginning; the request goes to who listened before, too."""
    with pytest.raises(ValueError, match="own"), at_once(JOB, "loading"):
        raise ValueError("own")
    with pytest.raises(Interrupted), at_once(dataclasses.replace(JOB, stopping=lambda: True), "loading"):
        raise AssertionError("begun")
    heard = list[int]()
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        with pytest.raises(Interrupted), at_once(JOB, "loading"):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]


def test_a_child_that_cannot_be_ended_saves_no_other(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nor does it keep the request from who listened before."""
    heard, ended = list[int](), list[str]()

    class Child:
        def kill(self) -> None:
            ended.append("one")
            if len(ended) == 1:
                raise AttributeError("no way to it")

    monkeypatch.setattr(multiprocessing, "active_children", lambda: [Child(), Child()])
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        with pytest.raises(Interrupted), at_once(JOB, "loading"):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended == ["one", "one"] and heard == [signal.SIGTERM] and "no way to it" in capfd.readouterr().err


def test_ctrl_c_while_a_model_is_loaded(tmp_path: Path) -> None:
    """By the command: out within two seconds with 130, and without a traceback."""
    tiny_model(tmp_path / "tiny")
    slow = tmp_path / "slow" / "peft"
    slow.mkdir(parents=True)  # in front of the real one: as a library or a model that takes long
    (slow / "__init__.py").write_text(SLOW)
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "./tiny"}))
    (tmp_path / "adapter" / "adapter_model.safetensors").write_bytes(save({}))
    words = ["-m", "runner", "+recipe=infer", "model=./adapter", "backend=transformers", "stages.infer.questions=[hi]"]
    environment = {**os.environ, "PYTHONPATH": f"{slow.parent}:{Path(__file__).parents[2]}"}
    with subprocess.Popen(
        [sys.executable, *words], cwd=tmp_path, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if line.strip() == "loading":
                begun = time.monotonic()
                process.send_signal(signal.SIGINT)
    assert process.returncode == 130 and time.monotonic() - begun < 2, said
    assert said.count("stopped while loading the model") == 1 and "Traceback" not in said
