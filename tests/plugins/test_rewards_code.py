"""Code of a model's: what passes, and what it cannot do."""

import asyncio
import contextlib
import os
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from runner.core import registry
from runner.core.errors import ConfigError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")


def score(code: str, tests: Any, **params: Any) -> Any:
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


@pytest.mark.parametrize(
    "tests",
    [[{"input": 1, "output": 2}], [["assert x == 2"]], [None], {"assert": "x == 2"}, 5, "if x:\n    assert x == 2"],
)
def test_what_is_no_test_is_a_failure(tests: Any) -> None:
    """Written out, a mapping is Python that passes whatever the code does; the first line of an `if` never passes."""
    made = score("x = 1", tests)
    assert isinstance(made, ValueError) and "tests are assert statements, which" in str(made)


def test_a_comment_is_no_test_that_passes() -> None:
    assert score("x = 1", "# of x\nassert x == 2") == 0.0 and score("x = 1", ["# of x"]) is None


@pytest.mark.parametrize(
    "code",
    [
        "import os\nfor _ in range(2000):\n    os.mkdir('d'); os.chdir('d')",
        "import os\nd = os.getcwd(); os.chdir('/')\ntry: os.rmdir(d); open(d, 'w').close()\nexcept OSError: pass",
        "import os\nfor n in range(20):\n    if os.fork() == 0:\n        while True: open(os.urandom(8).hex(), 'w')",
    ],
    ids=["deep", "a file in its place", "still written"],
)
def test_nothing_is_left_of_its_folder(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the code makes of it is no failure of the reward."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert score(code, ["pass"]) == 1.0 and not list(tmp_path.iterdir())


def test_the_last_block_counts() -> None:
    text = "```python\nx = 1\n```\nBetter:\n```python\nx = 2\n```\n```\noutput\n```"
    assert asyncio.run(registry.load("rewards", "code_execution")([text], tests=["assert x == 2"])) == [1.0]


@pytest.mark.parametrize(
    "code",
    [
        "import sys; sys.exit(0)",
        "import os; os._exit(0)",
        "import os\ndef double(x): os._exit(0)",
        "import atexit, os; atexit.register(os._exit, 0)",
        "import os\nif os.fork(): os._exit(0)",
        "import os; os.execv('/bin/true', ['true'])",
        "if False:\\",
        "import builtins; builtins.AssertionError = SystemExit\ndef double(x): return 0",
        "import os\nfor fd in range(3, 50):\n    try: os.write(fd, b'ok')\n    except OSError: pass\nos._exit(0)",
    ],
)
def test_ending_early_passes_nothing(code: str) -> None:
    """Only what comes after the test counts, not how the process ends."""
    assert score(code, ["assert double(1) == 2"]) == 0.0


def test_the_usual_code_runs() -> None:
    """Threads, processes, a guard for the main program, input that is not there, pickled classes, output."""
    code = """
import os, pickle, subprocess, sys, threading, dataclasses
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

@dataclasses.dataclass
class Held:
    value: int

def double(x):
    return 2 * x

if __name__ == "__main__":
    print("x" * 100_000)
"""
    tests = [
        "assert pickle.loads(pickle.dumps(Held(3))) == Held(3)",
        "assert list(ThreadPoolExecutor(2).map(double, range(3))) == [0, 2, 4]",
        "with ProcessPoolExecutor(2) as pool:\n    assert list(pool.map(double, range(3))) == [0, 2, 4]",
        "assert subprocess.check_output([sys.executable, '-c', 'print(4)']) == b'4\\n'",
        "assert os.system('true') == 0 and sys.stdin.read() == '' and sys.argv == ['-c']",
    ]
    assert [score(code, [test], memory_mib=2048) for test in tests] == [1.0] * 5


def test_other_processes_are_out_of_its_reach() -> None:
    """Signals in all their forms, limits of others, memory of others."""
    with subprocess.Popen(["sleep", "60"]) as other:
        code = f"""
import ctypes, os, platform, resource, signal
pid, syscall = {other.pid}, ctypes.CDLL(None, use_errno=True).syscall
here = ["x86_64", "aarch64"].index(platform.machine())
numbers = {registry.load("rewards", "code_execution").__globals__["_REFUSED"]!r}
def refused(name, *given):
    return syscall(numbers[name][here], *given) == -1 and ctypes.get_errno() == 1
"""
        tests = [
            f"try: {call}\nexcept PermissionError: pass\nelse: assert 0"
            for call in ("os.kill(pid, 9)", "os.kill(-1, 0)", "os.killpg(0, 0)", "os.setsid()", "os.setpgid(0, 0)",
                         "os.setpriority(os.PRIO_PROCESS, pid, 9)", "os.sched_setaffinity(pid, {0})",
                         "os.sched_setscheduler(pid, os.SCHED_BATCH, os.sched_param(0))",
                         "resource.prlimit(pid, resource.RLIMIT_CPU, (0, 0))",
                         "signal.pidfd_send_signal(os.pidfd_open(pid), 9)")
        ]  # fmt: skip
        tests += [f"assert refused({name!r}, pid, pid, 9, 0)" for name in ("tkill", "tgkill", "rt_sigqueueinfo")]
        tests += ["assert refused('rt_tgsigqueueinfo', pid, pid, 9, 0)", "assert refused('ptrace', 16, pid, 0, 0)"]
        tests += ["assert refused('process_vm_readv', pid, 0, 0, 0, 0, 0)"]
        tests += ["assert refused('pidfd_getfd', os.pidfd_open(pid), 0, 0)"]
        tests += ["os.sched_setaffinity(0, os.sched_getaffinity(0))"]
        tests += ["resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))"]
        assert [score(code, [test]) for test in tests] == [1.0] * len(tests)
        assert other.poll() is None
        other.kill()


def test_it_writes_to_its_own_folder_alone(tmp_path: Path) -> None:
    """Nothing of the user's is changed, made or removed, and no other process is looked into."""
    globals_ = registry.load("rewards", "code_execution").__globals__
    if globals_["_rules"](str(tmp_path)) is None:
        pytest.skip("a kernel without Landlock")
    (tmp_path / "kept").write_text("kept")
    here, parent = repr(str(tmp_path)), "f'/proc/{os.getppid()}/"
    tests = [
        f"try: {call}\nexcept PermissionError: pass\nelse: assert 0"
        for call in (f"open({here} + '/kept', 'a')", f"os.truncate({here} + '/kept', 0)", f"open({here} + '/new', 'w')",
                     f"os.remove({here} + '/kept')", f"os.mkdir({here} + '/new')", f"os.symlink('/', {here} + '/new')",
                     f"open({parent}mem', 'r+b')", *[f"open({parent}environ')"] * (os.geteuid() != 0))
    ]  # fmt: skip
    tests += ["os.mkdir('a'); open('a/b', 'w').write('x'); os.rename('a/b', 'b'); os.truncate('b', 0); os.remove('b')"]
    tests += ["import tempfile\nassert tempfile.TemporaryFile().write(b'x')", f"assert open({here} + '/kept').read()"]
    assert [score("import os", [test]) for test in tests] == [1.0] * len(tests)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"] and (tmp_path / "kept").read_text() == "kept"


def test_nothing_outlives_the_test(tmp_path: Path) -> None:
    """A process that leaves its parents behind, by forking twice in a session of its own, ends all the same."""
    mark = tmp_path / "mark"
    code = f"""
import os, time
if os.fork() == 0:
    try: os.setsid()
    except PermissionError: pass
    if os.fork() == 0:
        time.sleep(2)
        open({str(mark)!r}, "w")
    os._exit(0)
os.wait()
"""
    assert score(code, ["pass"]) == 1.0
    time.sleep(3)
    assert not mark.exists()


def test_processes_are_limited() -> None:
    own = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    limited = f"import resource; assert 0 < resource.getrlimit(resource.RLIMIT_NPROC)[0] != {own}"
    assert score("", [limited]) == 1.0


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


@pytest.mark.parametrize("name", ["seconds", "memory_mib", "parallel"])
def test_limits_of_nothing_are_refused(name: str) -> None:
    """No test at a time would wait for ever."""
    with pytest.raises(ConfigError, match=rf"reward.code_execution.params.{name}: 0 is too few"):
        score("x = 1", ["pass"], **{name: 0})


def test_secrets_of_the_environment_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert score("import os", ["assert 'HF_TOKEN' not in os.environ"]) == 1.0
