"""Trainings of the small model in processes of their own, which can be killed, stopped or be two of a group.

A process is forked from a server that has imported everything, so that it starts within a blink. It leaves the digest
of all its weights in FOLDER/digest.RANK when it comes to its end.
"""

import contextlib
import hashlib
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

from runner.core.errors import RunnerError
from runner.core.job import Job, Progress
from runner.core.specs import Batch, Data, Eval, Log, Optim, Save
from runner.training import checkpoints
from runner.training.settings import Settings
from tests.training import small

PRELOAD = [
    "peft",
    "transformers",
    "runner.training._update_trainer",
    "runner.training._beat",
    "tests.training.run_small",
]


class Trap(Progress):
    """Does what was asked for after so many updates: kill, stop, kill when the next checkpoint gets its marker, or kill
    two updates after the next save while that is still being written."""

    def __init__(self, event: str, update: int) -> None:
        self.event, self.at, self.stop = event, update, threading.Event()

    def update(self, done: int, total: int, what: str = "", **shown: Any) -> None:
        if self.event == "kill beside saving" and done == self.at + 3:
            os.kill(os.getpid(), signal.SIGKILL)
        if done != self.at:
            return
        if self.event == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.event == "stop":
            self.stop.set()
        elif self.event == "kill while saving":
            checkpoints.write_whole = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        elif self.event == "kill beside saving":
            checkpoints.finish = hang_from(done + 1)


def hang_from(update: int) -> Any:
    """What finishes checkpoints, and never comes to an end with those from an update on."""
    real = checkpoints.finish

    def finish(side: Path, folder: Path, facts: Any) -> Path:
        time.sleep(60 if facts["update"] >= update else 0)
        return real(side, folder, facts)

    return finish


def main(folder: Path, kind: str, event: str, update: int, rank: int, world: int, port: int) -> None:
    """Train; exit code 0, or that of the error, whose sentence goes to FOLDER/error.RANK."""
    import torch

    os.setsid()  # so that what it started can be ended with it
    torch.set_num_threads(1)
    if world > 1:
        group = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in group.items()})
    folder.mkdir(parents=True, exist_ok=True)
    log = os.open(folder / f"log.{rank}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    learner = {"full": lambda: small.model(dropout=0.1), "lora": small.adapter, "plain": small.model}[kind]()
    settings = Settings(
        lr=1e-2, optim=Optim(warmup=0.1), eval=Eval(every=4, at_start=True), save=Save(every=3), log=Log(every=2),
        data=Data(workers=1 if kind == "plain" else 0),
    )  # fmt: skip
    trap = Trap(event, update) if rank == 0 or event != "stop" else Trap("", 0)
    job = Job(name="train", folder=folder, run=folder, progress=trap, stopping=trap.stop.is_set)
    try:
        small.fit(
            folder, learner, small.rows(40), kept=small.rows(6, seed=9), batch=Batch(rows=8), budget=80, epochs=2.4,
            settings=settings, job=job,
        )  # fmt: skip
    except RunnerError as error:
        (folder / f"error.{rank}").write_text(str(error))
        sys.exit(error.exit_code)
    digest = hashlib.sha256()
    for parameter in learner.parameters():
        digest.update(parameter.detach().numpy().tobytes())
    (folder / f"digest.{rank}").write_text(digest.hexdigest())


def start(folder: Path, kind: str, event: str = "", update: int = 0, world: int = 1) -> list[Any]:
    """Start a training's processes."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(PRELOAD)
    port = _free_port()
    made = [
        server.Process(target=main, args=(folder, kind, event, update, rank, world, port), daemon=False)
        for rank in range(world)
    ]
    for process in made:
        process.start()
    return made


def run(folder: Path, kind: str, event: str = "", update: int = 0, world: int = 1) -> list[int]:
    """Run a training to its end; the exit code of each process, -9 when killed."""
    codes = []
    for process in start(folder, kind, event, update, world):
        process.join(120)
        assert process.exitcode is not None, (folder / "log.0").read_text()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # loaders of a training that was killed
        codes.append(process.exitcode)
    return codes


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
