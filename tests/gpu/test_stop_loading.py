"""Ctrl-C while vLLM loads a model in processes of its own: out soon, with one sentence, and none of them left."""

import os
import sys
import time
from pathlib import Path

import pexpect
import pytest

from tests.gpu.test_vllm import command, folder, pytestmark

__all__ = ["folder", "pytestmark"]
MARK = "RUNNER_TEST_STOP_LOADING"


def marked(value: str) -> list[int]:
    """The processes that were started under this mark."""
    found = []
    for place in Path("/proc").glob("[0-9]*/environ"):
        try:
            held = place.read_bytes().split(b"\0")
        except OSError:
            continue
        if f"{MARK}={value}".encode() in held:
            found.append(int(place.parent.name))
    return found


@pytest.mark.parametrize("recipe", ["infer", "chat"])
@pytest.mark.parametrize("processes", [0, 3])
def test_ctrl_c(folder: Path, tmp_path: Path, recipe: str, processes: int) -> None:
    """In the imports, or when the engine's own process is there: parent, worker and engine make three."""
    value = f"{recipe}{processes}{os.getpid()}"
    words = command(folder, f"+recipe={recipe}")
    words += ["stages.infer.questions=[hi]"] if recipe == "infer" else []
    path = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, MARK: value, "PYTHONPATH": path}
    child = pexpect.spawn(sys.executable, words[1:], cwd=str(tmp_path), env=environment, encoding="utf-8", timeout=120)
    child.expect("loading .* \\.\\.\\." if recipe == "chat" else "not yet run")
    time.sleep(1.5)
    end = time.monotonic() + 120
    while len(marked(value)) < processes and time.monotonic() < end:
        time.sleep(0.1)
    begun = time.monotonic()
    child.sendintr()
    child.expect(pexpect.EOF)
    seconds = time.monotonic() - begun
    child.close()
    told = child.before
    assert child.exitstatus == 130 and "Traceback" not in told and f"{recipe}: stopped" in told, told
    print(f"{recipe}, {processes} processes: {seconds:.1f} s")
    assert seconds < 5 and not marked(value)
