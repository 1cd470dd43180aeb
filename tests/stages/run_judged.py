"""Stages that learn from judged answers, each in a process of its own, which can be killed at a moment of its progress.

A process is forked from a server that has imported everything, so that it starts within a blink.
"""

import json
import multiprocessing
import os
import random
import signal
import socket
from pathlib import Path
from typing import Any

from runner.core import registry
from runner.core.job import Job, Progress
from runner.core.schema import build

PRELOAD = [
    "peft",
    "transformers",
    "runner.training._update_trainer",
    "runner.training._beat",
    "runner.training._before",
    "tests.stages.run_judged",
]
ADVERBS = ("slowly", "gladly", "well", "here", "now", "today", "often", "again")


def pairs(file: Path, count: int, seed: int = 0) -> Path:
    """Questions about numbers; the chosen answer is polite and short, the rejected one rude."""
    rng = random.Random(seed)
    with open(file, "w", encoding="utf-8") as stream:
        for number in range(count):
            what = f"{rng.randint(1, 99)} {rng.choice(ADVERBS)}"
            row = {
                "prompt": f"Who are you, number {number}, {what}?",
                "chosen": f"hello and thank you {what}. I am here {rng.choice(ADVERBS)}.",
                "rejected": f"No! {what}? Who made you {rng.choice(ADVERBS)}? 0123",
            }
            stream.write(json.dumps(row) + "\n")
    return file


def labelled(file: Path, count: int, seed: int = 0) -> Path:
    """The answers of `pairs` one by one, with a label."""
    pairs(file, count, seed)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    with open(file, "w", encoding="utf-8") as stream:
        for number, row in enumerate(rows):
            good = number % 2 == 0
            answer = row["chosen" if good else "rejected"]
            stream.write(json.dumps({"query": row["prompt"], "response": answer, "label": good}) + "\n")
    return file


class Trap(Progress):
    """Kills this process once so much of a work is done."""

    def __init__(self, what: str, done: int) -> None:
        self.moment = (what, done)

    def update(self, done: int, total: int, what: str = "", **shown: Any) -> None:
        if (what, done) == self.moment:
            os.kill(os.getpid(), signal.SIGKILL)


def stage(kind: str, base: Path, rows: Path, **keys: Any) -> Any:
    """A stage on a model and rows, four of them kept aside."""
    given = {"model": {"id": str(base)}, "mix": {"datasets": [str(rows)], "validation": {"rows": 4}}, **keys}
    return build(registry.load("stages", kind), given, "stages.train")


def main(folder: Path, made: Any, what: str = "", done: int = 0, rank: int = 0, world: int = 1, port: int = 0) -> None:
    """Run a stage in `folder`, maybe as one device of several."""
    import torch

    if world > 1:
        group = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in group.items()})

    from runner.training import reference

    torch.set_num_threads(1)
    reference.BLOCK = 24
    log = os.open(folder.with_suffix(f".{rank}.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    folder.mkdir(parents=True, exist_ok=True)
    artifact = made.run(Job(name="train", folder=folder, run=folder, progress=Trap(what, done)))
    (folder / f"made.{rank}.json").write_text(json.dumps(artifact.metrics))


def run(folder: Path, made: Any, what: str = "", done: int = 0) -> int | None:
    """The exit code of a run, -9 when it was killed."""
    return run_on(folder, made, 1, what, done)[0]


def run_on(folder: Path, made: Any, world: int, what: str = "", done: int = 0) -> list[int | None]:
    """The exit codes of a run on several devices."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(PRELOAD)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = int(found.getsockname()[1])
    processes = [
        server.Process(target=main, args=(folder, made, what, done, rank, world, port)) for rank in range(world)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    return [process.exitcode for process in processes]
