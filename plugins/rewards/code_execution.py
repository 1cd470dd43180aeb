"""The share of tests that the answer's Python code passes, run without network, with limits of memory, time and files.

Column: `tests`, a list of assert statements (or a text with one a line), each run after the code in a process of its
own. The code is the last ```python block of the answer, else its last block, else nothing: score 0. Linux only.
"""

import asyncio
import contextlib
import ctypes
import os
import platform
import re
import resource
import signal
import struct
import sys
import tempfile
from typing import Any

from runner.api import answer

_BLOCK = re.compile(r"```([\w+-]*)[^\n]*\n(.*?)```", re.DOTALL)
_SYSCALLS = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}  # audit number of the machine, socket()
_IO_URING_SETUP = 425  # can open sockets too


async def code_execution(
    completions: list[str],
    *,
    tests: list[Any],
    seconds: float = 5.0,
    memory_mib: int = 512,
    parallel: int = 4,
    all_or_nothing: bool = False,
) -> list[float | None]:
    """Score each answer between 0.0 and 1.0; None where a row has no tests.

    Args:
        seconds, memory_mib: of each test. parallel: tests at a time. all_or_nothing: 1.0 only when all pass.
    """
    gate = asyncio.Semaphore(parallel)

    async def passed(code: str, test: str) -> bool:
        async with gate:
            return await _passes(f"{code}\n{test}\n", seconds, memory_mib)

    async def score(completion: str, held: Any) -> float | None:
        own = [line for line in held.splitlines() if line.strip()] if isinstance(held, str) else list(held)
        code = _code(answer(completion))
        if not own or code is None:
            return None if not own else 0.0
        right = sum(await asyncio.gather(*(passed(code, str(test)) for test in own)))
        return float(right == len(own)) if all_or_nothing else right / len(own)

    return list(await asyncio.gather(*map(score, completions, tests)))


def _code(text: str) -> str | None:
    blocks = _BLOCK.findall(text)
    named = [code for language, code in blocks if language.lower() in ("python", "py", "python3")]
    found = named or [code for _, code in blocks]
    return str(found[-1]) if found else None


async def _passes(program: str, seconds: float, memory_mib: int) -> bool:
    filters = _no_network()
    with tempfile.TemporaryDirectory() as folder:

        def confine() -> None:
            for what, limit in (
                (resource.RLIMIT_AS, memory_mib << 20),
                (resource.RLIMIT_CPU, int(seconds) + 1),
                (resource.RLIMIT_FSIZE, 16 << 20),
                (resource.RLIMIT_CORE, 0),
            ):
                resource.setrlimit(what, (limit, limit))
            filters()

        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-c", program,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
            cwd=folder, env={"PATH": os.defpath, "HOME": folder}, start_new_session=True, preexec_fn=confine,
        )  # fmt: skip
        try:
            return await asyncio.wait_for(process.wait(), seconds) == 0
        except TimeoutError:
            return False
        finally:
            _end(process.pid)
            await process.wait()


def _end(group: int) -> None:
    """The test and whatever it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _no_network() -> Any:
    """A function that takes away the right to open sockets from the process that calls it and from all it starts.

    Raises:
        OSError: not on this system; code is never run with a network.
    """
    machine = platform.machine()
    if sys.platform != "linux" or machine not in _SYSCALLS:
        raise OSError(f"code_execution runs on Linux on {' or '.join(_SYSCALLS)}, not on {sys.platform} on {machine}")
    audit, socket = _SYSCALLS[machine]
    refuse, allow, kill = 0x00050001, 0x7FFF0000, 0x80000000  # EPERM, go on, end the process
    program = [
        (0x20, 0, 0, 4),  # the machine
        (0x15, 1, 0, audit), (0x06, 0, 0, kill),
        (0x20, 0, 0, 0),  # the call's number
        (0x35, 0, 1, 0x40000000), (0x06, 0, 0, kill),  # another way of numbering calls
        (0x15, 1, 0, socket), (0x15, 0, 1, _IO_URING_SETUP), (0x06, 0, 0, refuse),
        (0x06, 0, 0, allow),
    ]  # fmt: skip
    code = b"".join(struct.pack("HBBI", *step) for step in program)
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(code)
    head = struct.pack("HxxxxxxP", len(program), ctypes.addressof(buffer))
    prctl = libc.prctl
    prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_ulong]

    def confine(held: Any = buffer) -> None:  # holds the buffer alive
        if prctl(38, 1, None, 0, 0) or prctl(22, 2, head, 0, 0):  # no new privileges; then the filter
            os._exit(99)

    return confine
