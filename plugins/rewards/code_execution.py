"""The share of tests that the answer's Python code passes, run without network, with limits of memory, time and files.

Column: `tests`, a list of assert statements (or a text with one a line), each run after the code in a process of its
own; what is no text, or no Python by itself, is a failure of the row. The code is the last ```python block of the
answer, else its last block, else nothing: score 0. Linux only.

A test has passed when a random token comes back that is sent after it, so code that ends the process early passes
nothing. Code can send no signals, to itself neither, and cannot leave its process group, which is ended after the test.
Where the kernel has Landlock (Linux 5.13 and later, unless it is switched off), it writes to its own folder and to
shared memory only, and other processes are closed to it: their memory, their environment. Elsewhere it reads and writes
what files the user may. This is no prison: files are read as the user, and root has no limit of processes and reads the
environment of others all the same. Code and test share an interpreter, so an object that is equal to everything passes,
and so does code that looks for the token there. For answers that may mean harm, run the whole training in a container
or as a user of its own.
"""

import ast
import asyncio
import contextlib
import ctypes
import json
import os
import platform
import re
import reprlib
import resource
import secrets
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runner.api import ConfigError, answer

_BLOCK = re.compile(r"```([\w+-]*)[^\n]*\n(.*?)```", re.DOTALL)
_MORE_TASKS = 512  # processes and threads that the user may have beyond those of the whole system now
_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # how the kernel calls the machine
_REFUSED = {  # system calls by number on (x86_64, aarch64)
    "socket": (41, 198),
    "io_uring_setup": (425, 425),  # can open sockets too
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_send_signal": (424, 424),
    "setpgid": (109, 154),
    "setsid": (112, 157),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
}
_OWN = {  # likewise, of other processes; for its own they are needed
    "prlimit64": (302, 261),
    "sched_setaffinity": (203, 122),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
}
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # landlock(7)
_WRITE_FILE, _WRITES, _REFER, _TRUNCATE = 1 << 1, 0b1_1111_1111_0010, 1 << 13, 1 << 14  # rights: make and remove too
_DRIVER = """
def run():
    import json, os, sys, types
    with open(0, closefd=False) as told:
        code, test, token = json.load(told)
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    verdict = int(sys.argv.pop())
    os.set_inheritable(verdict, False)
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    exec(compile(code, "<answer>", "exec"), main.__dict__)
    exec(compile(test, "<test>", "exec"), main.__dict__)
    os.write(verdict, token.encode())
run()
"""


async def code_execution(
    completions: list[str],
    *,
    tests: list[Any],
    seconds: float = 5.0,
    memory_mib: int = 512,
    parallel: int = 4,
    all_or_nothing: bool = False,
) -> list[float | Exception | None]:
    """Score each answer between 0.0 and 1.0; None where a row has no tests.

    Args:
        seconds, memory_mib: of each test. parallel: tests at a time. all_or_nothing: 1.0 only when all pass.
    """
    for name, value in (("seconds", seconds), ("memory_mib", memory_mib), ("parallel", parallel)):
        if value <= 0:
            raise ConfigError(f"reward.code_execution.params.{name}", f"{value:g} is too few", "Take more than 0.")
    gate = asyncio.Semaphore(parallel)

    async def passed(code: str, test: str) -> bool:
        async with gate:
            return await _passes(code, test, seconds, memory_mib)

    async def score(completion: str, held: Any) -> float | Exception | None:
        try:
            own = _tests(held)
        except (TypeError, ValueError, SyntaxError) as error:
            return ValueError(f"tests are assert statements, which {reprlib.repr(held)} is not: {error}")
        code = _code(answer(completion))
        if not own or code is None:
            return None if not own else 0.0
        right = sum(await asyncio.gather(*(passed(code, test) for test in own)))
        return float(right == len(own)) if all_or_nothing else right / len(own)

    return list(await asyncio.gather(*map(score, completions, tests)))


def _tests(held: Any) -> list[str]:
    """The tests of a row, but for those that run nothing, such as comments: whatever the code does, they pass."""
    own = held.splitlines() if isinstance(held, str) else held
    if not isinstance(own, list) or not all(isinstance(test, str) for test in own):
        raise TypeError("no list of texts")  # a mapping, written out, is Python that always passes
    return [test for test in own if ast.parse(test).body]


def _code(text: str) -> str | None:
    blocks = _BLOCK.findall(text)
    named = [code for language, code in blocks if language.lower() in ("python", "py", "python3")]
    found = named or [code for _, code in blocks]
    return str(found[-1]) if found else None


async def _passes(code: str, test: str, seconds: float, memory_mib: int) -> bool:
    token = secrets.token_hex(16)
    verdict, theirs = os.pipe()
    with _folder() as folder, tempfile.TemporaryFile() as program, open(verdict, "rb") as told:
        program.write(json.dumps([code, test, token]).encode())  # not on the command line, where code could read it
        program.seek(0)
        rules = None
        try:
            rules = _rules(folder)
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-c", _DRIVER, str(theirs), pass_fds=(theirs,),
                stdin=program, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
                cwd=folder, env={"PATH": os.defpath, "HOME": folder, "TMPDIR": folder}, start_new_session=True,
                preexec_fn=_confine(seconds, memory_mib, rules),
            )  # fmt: skip
        finally:
            os.close(theirs)
            if rules is not None:
                os.close(rules)
        try:
            ended_well = await asyncio.wait_for(process.wait(), seconds) == 0
        except TimeoutError:
            return False
        finally:
            _end(process.pid)
            await process.wait()
        os.set_blocking(verdict, False)  # what the code has forked may still hold the other end
        return ended_well and told.read(2 * len(token)) == token.encode()


@contextlib.contextmanager
def _folder() -> Iterator[str]:
    """A folder that is removed whatever the code made of it; what it started may still write there."""
    made = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    try:
        yield made.name
    finally:
        with contextlib.suppress(RecursionError):  # deeper than Python goes
            made.cleanup()
        if os.path.lexists(made.name):
            subprocess.run(["rm", "-rf", made.name], stderr=subprocess.DEVNULL, check=False)


def _end(group: int) -> None:
    """The test and whatever it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _machine() -> str:
    """The machine, whose numbers of system calls are known."""
    machine = platform.machine()
    if sys.platform != "linux" or machine not in _AUDIT:
        raise OSError(f"code_execution runs on Linux on {' or '.join(_AUDIT)}, not on {sys.platform} on {machine}")
    return machine


def _rules(folder: str) -> int | None:
    """A descriptor of what may be written; None where the kernel has no Landlock.

    Raises:
        OSError: it has, and refuses; or this is another system.
    """
    _machine()
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    version = syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return None
    rights = _WRITES | (_REFER if version >= 2 else 0) | (_TRUNCATE if version >= 3 else 0)
    rules = int(syscall(_CREATE_RULESET, struct.pack("Q", rights), ctypes.c_size_t(8), 0))
    for place in (folder, "/dev/shm", os.devnull):
        with contextlib.suppress(FileNotFoundError):
            beneath = os.open(place, os.O_PATH)
            allowed = rights if os.path.isdir(place) else rights & (_WRITE_FILE | _TRUNCATE)
            failed = syscall(_ADD_RULE, rules, 1, struct.pack("=Qi", allowed, beneath), 0)
            os.close(beneath)
            if failed:
                raise OSError(ctypes.get_errno(), f"landlock_add_rule: {os.strerror(ctypes.get_errno())}")
    return rules


def _confine(seconds: float, memory_mib: int, rules: int | None) -> Any:
    """A function that takes rights away from the process that calls it and from all it starts: see `_REFUSED`, `_OWN`
    and `_rules`.

    Raises:
        OSError: not on this system; code never runs without.
    """
    machine = _machine()
    tasks = int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2])
    steps = _filter(machine)
    buffer = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    head = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    prctl, syscall = libc.prctl, libc.syscall
    prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_ulong]

    def confine(held: Any = buffer) -> None:  # holds the buffer alive
        for what, limit in (
            (resource.RLIMIT_AS, memory_mib << 20),
            (resource.RLIMIT_CPU, int(seconds) + 1),
            (resource.RLIMIT_FSIZE, 16 << 20),
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_NPROC, tasks + _MORE_TASKS),
        ):
            hard = resource.getrlimit(what)[1]  # nobody may raise it
            limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
            resource.setrlimit(what, (limit, limit))
        # ends with its parent; no new privileges; files; then the filter
        if prctl(1, signal.SIGKILL, None, 0, 0) or prctl(38, 1, None, 0, 0):
            os._exit(99)
        if (rules is not None and syscall(_RESTRICT_SELF, rules, 0)) or prctl(22, 2, head, 0, 0):
            os._exit(99)

    return confine


def _filter(machine: str) -> list[tuple[int, int, int, int]]:
    """The steps that the kernel takes at each system call: what to do, how far to go on if so and if not, a value."""
    here = list(_AUDIT).index(machine)
    refused, own = ([numbers[here] for numbers in held.values()] for held in (_REFUSED, _OWN))
    refuse, allow, kill = 0x00050001, 0x7FFF0000, 0x80000000  # EPERM, go on, end the process
    return [
        (0x20, 0, 0, 4),  # the machine
        (0x15, 1, 0, _AUDIT[machine]), (0x06, 0, 0, kill),
        (0x20, 0, 0, 0),  # the call's number
        (0x35, 0, 1, 0x40000000), (0x06, 0, 0, kill),  # another way of numbering calls
        *((0x15, len(refused) + len(own) + 3 - place, 0, number) for place, number in enumerate(refused)),  # to the end
        *((0x15, len(own) - place, 0, number) for place, number in enumerate(own)),  # over the next step
        (0x06, 0, 0, allow),
        (0x20, 0, 0, 16), (0x15, 0, 1, 0),  # of which process: 0 is its own
        (0x06, 0, 0, allow),
        (0x06, 0, 0, refuse),
    ]  # fmt: skip
