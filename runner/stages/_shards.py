"""Questions shared out over nodes: each answers a stretch of them into a folder of its own, and the first node puts the
stretches together once all are whole. The nodes meet in the stage's folder alone, which they share.

A node that fails says so there; one that writes nothing for `parallelism.timeout` seconds is given up.
"""

import contextlib
import dataclasses
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from runner.backends import Engine
from runner.core.artifact import place, write_whole
from runner.core.errors import Interrupted, RunnerError, StageError
from runner.core.job import JOB_FILE, Job
from runner.core.specs import Parallelism
from runner.engines import launch
from runner.stages._answers import Asking, ask, mark
from runner.stages._completions import FILE
from runner.stages._questions import Question
from runner.stages._results import PROGRESS, refuse_foreign

FAILED = "failed.txt"
LOOK = 0.5  # seconds between looks at the other nodes


def asked(
    job: Job, start: Callable[[], Engine], questions: Sequence[Question], asking: Asking, parallelism: Parallelism
) -> dict[str, Any] | None:
    """Answer all questions into `asking.file`, together with the other nodes; figures of this node as `ask` gives them.

    Returns:
        None on another node than the first: its part is done.

    Raises:
        StageError: too many errors, here or on another node. Interrupted: the user stopped it.
    """
    if parallelism.nodes == 1:
        return ask(job, start, questions, asking)
    node, nodes = launch.node_rank(parallelism, os.environ), parallelism.nodes
    if node == 0:
        refuse_foreign(asking.file, job.folder)
    own = folder_of(job, node, nodes)
    own.mkdir(parents=True, exist_ok=True)
    with _told(own / FAILED):
        part = questions[slice(*bounds(len(questions), node, nodes))]
        print(f"node {node} of {nodes}: {len(part)} of {len(questions)} questions", flush=True)
        alone = dataclasses.replace(asking, file=own / FILE, again=False)  # what is whole, others may have taken
        speed = ask(dataclasses.replace(job, folder=own), start, part, alone)
    if node > 0:
        return None
    for other in range(1, nodes):
        first, end = bounds(len(questions), other, nodes)
        _wait(job, folder_of(job, other, nodes), other, end - first, mark(job, asking.inputs), parallelism.timeout)
    _join(job, asking, len(questions), nodes)
    return speed


def bounds(count: int, node: int, nodes: int) -> tuple[int, int]:
    """The first question of a node, and the one after its last."""
    return count * node // nodes, count * (node + 1) // nodes


def folder_of(job: Job, node: int, nodes: int) -> Path:
    """Where a node keeps its part."""
    return job.folder / f"node{node}_of_{nodes}"


@contextlib.contextmanager
def _told(file: Path) -> Iterator[None]:
    """What ends this node is left where the first node looks."""
    file.unlink(missing_ok=True)
    try:
        yield
    except RunnerError as error:
        write_whole(file, str(error))
        raise


def _wait(job: Job, folder: Path, node: int, rows: int, wanted: str, timeout: float) -> None:
    """Until a node's part is whole."""
    seen, since, said = -1.0, time.monotonic(), False
    while not _is_whole(folder, rows, wanted):
        if not said:
            print(f"waiting for node {node}", flush=True)
            said = True
        if job.stopping():
            raise Interrupted(f"{job.name}: stopped while node {node} was at work")
        with contextlib.suppress(FileNotFoundError):
            if _changed(folder / FAILED) >= _changed(job.folder / JOB_FILE):  # else it is of an earlier try
                raise StageError(f"node {node}: {(folder / FAILED).read_text(encoding='utf-8')}")
        latest = max((file.stat().st_mtime for file in _files(folder)), default=0.0)
        if latest != seen:
            seen, since = latest, time.monotonic()
        if time.monotonic() - since > timeout:
            log = job.folder / f"log.node{node}.txt"
            raise StageError(f"node {node} has written nothing for {timeout:g} s. Does it run? Its words: {log}.")
        time.sleep(LOOK)


def _changed(file: Path) -> int:
    """When, by the clock of the disk that the nodes share."""
    return file.stat().st_mtime_ns


def _files(folder: Path) -> list[Path]:
    return [file for file in folder.iterdir() if not file.name.startswith(".")] if folder.is_dir() else []


def _is_whole(folder: Path, rows: int, wanted: str) -> bool:
    if not (folder / PROGRESS).is_file():
        return False
    state = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
    return bool(state["mark"] == wanted and state["rows"] == rows)


def _join(job: Job, asking: Asking, rows: int, nodes: int) -> None:
    """One file of all parts, in the order of the questions; whole or absent."""
    asking.file.parent.mkdir(parents=True, exist_ok=True)
    side = asking.file.with_name(f".{asking.file.name}.{os.getpid()}")
    with open(side, "wb") as whole:
        for node in range(nodes):
            with open(folder_of(job, node, nodes) / FILE, "rb") as part:
                shutil.copyfileobj(part, whole)
        whole.flush()
        os.fsync(whole.fileno())
    held = {"file": place(asking.file, job.folder), "rows": rows, "bytes": side.stat().st_size}
    state = {"mark": mark(job, asking.inputs), **held}
    write_whole(job.folder / PROGRESS, json.dumps(state, indent=2) + "\n")
    os.replace(side, asking.file)
