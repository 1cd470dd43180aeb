"""A process killed with SIGKILL takes the engines with it that it has started, and nothing else."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what ends a process with its parent is Linux's")
PARENT = """
import multiprocessing, os, time
from runner.core.orphans import forks_end_with_this

def wait():
    print(os.getpid(), flush=True)
    time.sleep(60)

fork = multiprocessing.get_context("fork")
with forks_end_with_this():
    fork.Process(target=wait).start()
time.sleep(0.5)
fork.Process(target=wait).start()
time.sleep(60)
"""


def alive(process: int) -> bool:
    """Whether it runs."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_an_engine_ends_with_who_started_it() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    engine, other = int(parent.stdout.readline()), int(parent.stdout.readline())
    try:
        assert alive(engine) and alive(other)
        parent.kill()
        parent.wait()
        end = time.monotonic() + 10
        while alive(engine) and time.monotonic() < end:
            time.sleep(0.05)
        assert not alive(engine) and alive(other)
    finally:
        os.kill(other, signal.SIGKILL)
        parent.stdout.close()
