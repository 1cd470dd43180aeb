"""Runs a stage's worker once for each device of this node, and ends with the exit code of the one that failed first.

The part that torchrun plays, by the same variables (a stage started by torchrun works too), and with what it lacks: a
signal is passed on once and the ranks have the time they need to write a checkpoint; whatever ends, nothing is left
behind; a mistake found by all ranks is told once; a hang is named. Rank 0 speaks; the others write to log.rankN.txt.
"""

import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from runner.core.errors import Interrupted, RunnerError, StageError
from runner.core.job import PARENT_FD, PROGRESS_FD
from runner.engines.launch import LOCAL_RANK, LOCAL_WORLD, RANK, WORLD

KEPT = 200  # last lines of a rank that are looked at
TAIL = 12  # lines of a failed rank's log that are shown
REPEAT = 2.0  # seconds that the last words of a rank that has ended may take
GRACE = 60.0  # seconds that the other ranks have once one has ended as it should
TIMED_OUT = re.compile(r"timed out (waiting|after)|timeout\(ms\)|operation timeout|wait timeout", re.IGNORECASE)
LOST = re.compile(r"connection (closed|reset) by peer|remote process (has )?exited", re.IGNORECASE)
TRACED = re.compile(r"\s*(Traceback |File )")  # Python's own words: there is no sentence
ASKED = "stopping: devices stop together, after the update that is running; asked once more, all ends at once\n"
OUR_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run(command: Sequence[str], ranks: Sequence[Mapping[str, str]], folder: Path, timeout: int) -> int:
    """Start the command once for each entry of `ranks` and wait for all of them.

    Args:
        ranks: variables of each process, see launch.py. folder: where logs of all but rank 0 go.
        timeout: seconds that a rank waits for the others, for the sentence about a hang.

    Returns:
        0, or the exit code of the rank that failed first, after its last lines were printed.
    """
    group = Ranks(command, ranks, folder)
    try:
        failed = group.wait()
    finally:
        group.end()
    if failed is None:
        return 0
    return _tell(group, folder, *failed, timeout)


class Ranks:
    """The processes of this node. alive_at_failure: those that still ran when the first one failed. nodes: how many.

    said: the last lines of the rank that speaks.
    """

    def __init__(self, command: Sequence[str], ranks: Sequence[Mapping[str, str]], folder: Path) -> None:
        self._ended: queue.Queue[tuple[str, int]] = queue.Queue()
        self._asked = self._mistaken = False
        self.said: deque[str] = deque(maxlen=KEPT)
        self.alive_at_failure: list[str] = []
        self.nodes = max((int(told[WORLD]) // int(told[LOCAL_WORLD]) for told in ranks), default=1)
        self._alive, self._hold = os.pipe()  # closes with this process, however it ends: the ranks watch it
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._repeaters: list[threading.Thread] = []
        self._before = {number: signal.signal(number, self._forward) for number in OUR_SIGNALS}
        for told in ranks:
            process = self._start(command, told, folder)
            self.processes[told[RANK]] = process
            self._repeaters.append(threading.Thread(target=self._repeat, args=(process,), daemon=True))
            self._repeaters[-1].start()
            threading.Thread(target=self._watch, args=(told[RANK], process), daemon=True).start()

    def _start(self, command: Sequence[str], told: Mapping[str, str], folder: Path) -> subprocess.Popen[bytes]:
        speaks = told[LOCAL_RANK] == "0"
        passed = [self._alive]
        threads = _threads(int(told[LOCAL_WORLD]))
        environment = {**os.environ, **told, PARENT_FD: str(self._alive), "OMP_NUM_THREADS": threads}
        if told[RANK] == "0" and PROGRESS_FD in os.environ:
            passed.append(int(os.environ[PROGRESS_FD]))
        else:
            environment.pop(PROGRESS_FD, None)
        if speaks:
            return subprocess.Popen(
                command, env=environment, pass_fds=passed, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
        with open(log_of(folder, told[RANK]), "wb") as log:
            return subprocess.Popen(command, env=environment, pass_fds=passed, stdout=log, stderr=subprocess.STDOUT)

    def _repeat(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdout is None:
            return
        with process.stdout as lines:
            for line in lines:
                sys.stdout.buffer.write(line)
                sys.stdout.buffer.flush()
                self.said.append(line.decode("utf-8", "replace").rstrip("\n"))

    def _watch(self, rank: str, process: subprocess.Popen[bytes]) -> None:
        """Not by the end of what it says: a process that it leaves behind may hold that open."""
        self._ended.put((rank, process.wait()))

    def _forward(self, number: int, frame: FrameType | None) -> None:
        """Ranks know SIGTERM alone, so that a terminal's Ctrl-C, which reaches them too, does not count twice."""
        if self._asked:
            self._send(signal.SIGKILL)
        else:
            self._send(signal.SIGTERM)
            os.write(sys.stdout.fileno(), ASKED.encode())  # nothing that the interrupted code may be in the middle of
        self._asked = True

    def _send(self, number: int) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(number)

    def wait(self) -> tuple[str, int] | None:
        """Wait for all; the first that failed, with its exit code, or None. Once one failed the others are ended."""
        stopped: tuple[str, int] | None = None
        end = None
        for _ in range(len(self.processes)):
            try:
                rank, code = self._next(end)
            except queue.Empty:
                self.alive_at_failure = self._running()
                return stopped or (self.alive_at_failure[0], 1)
            if code not in (0, Interrupted.exit_code):
                self._mistaken = code == RunnerError.exit_code
                self.alive_at_failure = self._running()
                return rank, code
            if code and stopped is None:
                stopped = (rank, code)
                end = time.monotonic() + GRACE
        return stopped

    def _next(self, end: float | None) -> tuple[str, int]:
        while True:  # in short waits, so that signals are heard
            try:
                return self._ended.get(timeout=0.5)
            except queue.Empty:
                if end is not None and time.monotonic() > end:
                    raise

    def _running(self) -> list[str]:
        return [rank for rank, process in self.processes.items() if process.poll() is None]

    def end(self) -> None:
        """End what still runs; where it stood goes to its log (SIGUSR1: see worker.py), unless all found a mistake."""
        if self._running():
            if not self._mistaken:
                self._send(signal.SIGUSR1)
                time.sleep(0.3)
            self._send(signal.SIGKILL)
        for process in self.processes.values():
            process.wait()
        for repeater in self._repeaters:
            repeater.join(REPEAT)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._hold)
        os.close(self._alive)


def _threads(ranks: int) -> str:
    """Threads of each rank's arithmetic on the CPU."""
    return os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // max(1, ranks))))


def log_of(folder: Path, rank: str) -> Path:
    """Where a rank that does not speak writes."""
    return folder / f"log.rank{rank}.txt"


def _tell(group: Ranks, folder: Path, rank: str, code: int, timeout: int) -> int:
    """Print what the first failed rank said, unless it spoke here already; a hang is named."""
    log = log_of(folder, rank)
    apart = log.is_file()
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-KEPT:] if apart else list(group.said)
    if code == Interrupted.exit_code:
        return code
    if code == RunnerError.exit_code:  # a sentence for the user, and nothing after it
        if lines[-1:] != list(group.said)[-1:]:
            print("\n".join(lines[-1:]), flush=True)
        return code
    how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    how += ", as where memory runs out" if code == -signal.SIGKILL else ""
    if apart:
        print(f"rank {rank} failed first ({how}). Its last lines, more in {log}:", flush=True)
        print("\n".join(f"    {line}" for line in lines[-TAIL:]), flush=True)
    else:
        told = bool(lines) and code == StageError.exit_code and not any(TRACED.match(line) for line in lines[-TAIL:])
        print(f"rank {rank} failed first ({how}){': ' + lines[-1] if told else '.'}", flush=True)
    if any(TIMED_OUT.search(line) for line in lines):
        print(f"rank {rank} waited {timeout} s for the others in vain: {_hanging(folder, group)}", flush=True)
    elif group.nodes > 1 and any(LOST.search(line) for line in lines):
        print(f"rank {rank} lost its connection to a device of another node, which has ended: look there.", flush=True)
    return 1 if code < 0 else code


def _hanging(folder: Path, group: Ranks) -> str:
    alive = group.alive_at_failure
    if not alive:
        return "they had ended. Look at the other nodes."
    log = log_of(folder, alive[0])
    return f"{', '.join(f'rank {other}' for other in alive)} hung. Where: {log if log.is_file() else 'see above'}."


def worker(folder: Path) -> list[str]:
    """The command of one rank."""
    return [sys.executable, "-m", "runner.worker", str(folder)]


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
