"""A worker process: in a session of its own, its output line by line, its progress beside it, signals forwarded once.

Ctrl-C reaches the parent alone, because the worker is in another session; the parent passes it on. A second one ends
the worker and all that it started at once. The worker holds the run's lock through an inherited descriptor and watches
a pipe, so that it dies with its parent.
"""

import contextlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any, Self

from runner.core.job import PARENT_FD, PROGRESS_FD

INDENT = 2  # columns before each line of a stage
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
QUIET = {"TQDM_DISABLE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TOKENIZERS_PARALLELISM": "false"}


def calm(environment: Mapping[str, str]) -> dict[str, str]:
    """A worker's environment: no progress bars of libraries, and no notices about their own future unless asked for.
    To ask whether there is a GPU leaves its driver alone: after that, vLLM's processes can be forked.
    """
    mild = {"PYTHONWARNINGS": "ignore::FutureWarning", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
    return {**mild, **environment, **QUIET}


class Process:
    """Use as a context manager; `lines` yields the output until the worker has ended.

    code: its exit code, once the block is left. asked_to_stop: whether a signal was passed on.
    """

    def __init__(self, command: Sequence[str], lock: int | None = None) -> None:
        self.command, self.lock = list(command), lock
        self.code = 0
        self.asked_to_stop = False

    def __enter__(self) -> Self:
        alive_read, self._alive = os.pipe()
        self._progress, progress_write = os.pipe()
        passed = [alive_read, progress_write] + ([self.lock] if self.lock is not None else [])
        marks = {PARENT_FD: str(alive_read), PROGRESS_FD: str(progress_write), "PYTHONUNBUFFERED": "1"}
        if sys.stdout.isatty():  # tables of a stage are as wide as the terminal, less what its lines are indented by
            marks["COLUMNS"] = str(max(40, shutil.get_terminal_size().columns - INDENT))
        environment = {name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"}
        self._popen = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True, pass_fds=passed, env={**calm(environment), **marks},
        )  # fmt: skip
        os.close(alive_read)
        os.close(progress_write)
        deaf = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # started by nohup
        heard = STOPS[:2] if deaf else STOPS
        self._before = {number: signal.signal(number, self._forward) for number in heard}
        return self

    def __exit__(self, *error: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._alive)  # the worker sees it and ends, if it still runs
        self.code = self._popen.wait()
        self.end()  # what the worker started and left behind
        os.close(self._progress)
        if self._popen.stdout:
            self._popen.stdout.close()

    def _forward(self, number: int, frame: FrameType | None) -> None:
        """A closed terminal hangs up more than once, by the system and by the shell: that is no second request.

        Passed on is SIGTERM, whatever came: Ctrl-C's signal would be a traceback while the worker still imports.
        """
        if self.asked_to_stop and number != signal.SIGHUP:
            self.end()
        elif not self.asked_to_stop and self._popen.poll() is None:
            self._popen.send_signal(signal.SIGTERM)
        self.asked_to_stop = True

    def end(self) -> None:
        """End the worker and all that it started, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)

    def lines(self, progress: Callable[[dict[str, Any]], None]) -> Iterator[str]:
        """Yield each line of output; hand each progress object to `progress`."""
        assert self._popen.stdout is not None
        output = self._popen.stdout.fileno()
        rest = {output: b"", self._progress: b""}
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            selector.register(self._progress, selectors.EVENT_READ)
            while output in selector.get_map():
                for key, _ in selector.select():
                    chunk = os.read(key.fd, 65536)
                    if not chunk:
                        selector.unregister(key.fd)
                    *whole, rest[key.fd] = (rest[key.fd] + chunk).split(b"\n")
                    for line in whole:
                        if key.fd == output:
                            yield line.decode("utf-8", "replace") + "\n"
                        elif line:
                            progress(json.loads(line))
        if rest[output]:
            yield rest[output].decode("utf-8", "replace") + "\n"
