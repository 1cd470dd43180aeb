"""Code of a model's: what passes, and what it cannot do."""

import asyncio
import contextlib
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from runner.core import registry

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")


def score(code: str, tests: Any, **params: Any) -> float | None:
    """The score of one answer that holds this code."""
    text = f"<think>\n```python\nraise\n```\n</think>\n\nHere:\n```python\n{code}\n```\nDone."
    function = registry.load("rewards", "code_execution")
    (made,) = asyncio.run(function([text], tests=[tests], **params))
    return made


def test_the_share_of_tests_that_pass() -> None:
    code = "def double(x):\n    return 2 * x if x < 10 else 0"
    tests = ["assert double(1) == 2", "assert double(5) == 10", "assert double(10) == 20", "assert double('a') == 1"]
    assert score(code, tests) == 0.5 and score(code, tests, all_or_nothing=True) == 0.0
    assert score(code, "assert double(1) == 2\n\nassert double(0) == 0\n", all_or_nothing=True) == 1.0
    assert score(code, []) is None
    assert score("def double(:", tests) == 0.0
    assert asyncio.run(registry.load("rewards", "code_execution")(["no code"], tests=[tests])) == [0.0]


def test_the_last_block_counts() -> None:
    text = "```python\nx = 1\n```\nBetter:\n```python\nx = 2\n```\n```\noutput\n```"
    assert asyncio.run(registry.load("rewards", "code_execution")([text], tests=["assert x == 2"])) == [1.0]


def test_it_has_no_network() -> None:
    """A listener that waits on this machine is not reached, by the code or by what it starts."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(3)
        port, reached = server.getsockname()[1], []

        def listen() -> None:
            with contextlib.suppress(TimeoutError):
                reached.append(server.accept())

        thread = threading.Thread(target=listen)
        thread.start()
        call = f"import socket; socket.create_connection(('127.0.0.1', {port}))"
        started = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {call!r}], check=True)"
        assert score(call, ["pass"]) == 0.0 and score(started, ["pass"]) == 0.0
        assert score(f"try:\n    {call}\nexcept PermissionError:\n    ok = 1", ["assert ok"]) == 1.0
        thread.join()
    assert not reached


def test_it_has_limits(tmp_path: Path) -> None:
    """Time, memory, sizes of files, and nothing that goes on afterwards."""
    begun = time.monotonic()
    assert score("while True: pass", ["pass"], seconds=1.0) == 0.0
    assert score("import time; time.sleep(60)", ["pass"], seconds=1.0) == 0.0
    assert score("x = bytearray(1 << 30)", ["pass"]) == 0.0
    assert score("open('big', 'wb').write(b'x' * (32 << 20))", ["pass"]) == 0.0
    mark = tmp_path / "mark"
    later = f"import time; time.sleep(2); open({str(mark)!r}, 'w')"
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {later!r}])"
    assert score(code, ["pass"]) == 1.0
    assert time.monotonic() - begun < 30
    time.sleep(3)
    assert not mark.exists()


def test_secrets_of_the_environment_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert score("import os", ["assert 'HF_TOKEN' not in os.environ"]) == 1.0
