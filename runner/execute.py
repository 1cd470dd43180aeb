"""Walks a plan: reuses finished stages, runs each other one in its own process, stops at the first failure.

Writes the run folder's own files (config.yaml, plan.json, provenance.json), each stage's job.yaml and log.txt.
A batch stage's output goes to its log and to the terminal; an interactive stage owns the terminal.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from runner import folder, nodes, reuse, worker
from runner.core import artifact
from runner.core.errors import Interrupted, PlanError, RunnerError, StageError
from runner.core.job import JOB_FILE
from runner.engines import launch
from runner.lock import FILE as LOCK
from runner.lock import locked, unlocked
from runner.plan import Plan, Step, refuse_changes, work_order
from runner.process import Process, calm
from runner.terminal import Terminal

STOPPED = (Interrupted.exit_code, -signal.SIGINT)  # Python ends by the signal where C has seen its exception pass
TRACED = ("Traceback ", "File ")  # how lines of Python's own words begin: there is no sentence
TAIL = 15  # lines of a failed stage's log that are shown


@dataclass(frozen=True)
class Done:
    """How a step ended. seconds: 0 when reused."""

    step: Step
    state: str
    seconds: float
    made: artifact.Artifact | None


def execute(plan: Plan, in_process: bool = False) -> list[Done]:
    """Run what the plan says.

    Args:
        in_process: run each stage in this process instead of its own; for tests.

    Raises:
        StageError: a stage failed. Interrupted: the user stopped it. RunnerError: the user's mistake.
    """
    node = launch.node_rank(plan.recipe.parallelism, os.environ)
    if node > 0:
        return _join(plan, node)
    refuse_changes(plan)
    _meet(plan)
    batch = any(step.stage.reuse != "never" for step in plan.steps)
    with (
        locked(plan.run) if batch else unlocked() as lock,
        nodes.first(plan.run, plan.recipe.parallelism.nodes) as told,
    ):
        if batch:
            _still_so(plan)
            folder.describe(plan)
        terminal = Terminal()
        ended: list[Done] = []
        for step in plan.steps:
            start = time.monotonic()
            if step.state == "reuse":
                ended.append(Done(step, "reused", 0.0, artifact.read(step.folder)))
                terminal.stage(step, f"reused, {step.reason}")
                told.leave(step.name)
                continue
            if not step.stage.interactive:  # what owns the terminal says what it likes: a pipe gets its answers alone
                terminal.stage(step, step.reason)
            _order(plan, step)
            told.at(step.name)
            _run(step, terminal, in_process, lock)
            told.leave(step.name)
            ended.append(Done(step, "done", time.monotonic() - start, artifact.read(step.folder)))
        terminal.table(plan, ended)
    return ended


def _meet(plan: Plan) -> None:
    """Before any stage runs: nodes that train together know where they meet."""
    for step in plan.steps:
        spread = getattr(step.stage, "parallelism", None)
        if step.state == "reuse" or spread is None or getattr(step.stage, "replicates", False):
            continue
        if spread.nodes > 1 and launch.spread(spread):
            launch.meeting_point(spread, os.environ)


def _still_so(plan: Plan) -> None:
    """A plan is made before the lock is held.

    Raises:
        PlanError: another run has worked in the folder meanwhile.
    """
    for step in plan.steps:
        rerun = [name for name in step.needs if plan.step(name).state != "reuse"]
        if reuse.state(step.stage, step.folder, step.identity, rerun)[0] != step.state:
            raise PlanError(f"{plan.run}: another run has just worked here. Give the same command again.")


def _order(plan: Plan, step: Step) -> None:
    """Write what the worker is to do."""
    if step.state == "changed" or _anew(plan, step):  # on_change=replace
        _empty(step.folder)
    made = artifact.read(step.folder)
    if made is not None and made.gone:
        (step.folder / artifact.FILE).unlink()  # else half of what is made again would be taken for the whole
    step.folder.mkdir(parents=True, exist_ok=True)
    artifact.write_whole(step.folder / JOB_FILE, work_order(plan, step))


def _empty(folder: Path) -> None:
    """Remove all that a folder holds, what says that it is complete first. The folder may be a link to another disk."""
    (folder / artifact.FILE).unlink(missing_ok=True)
    for inner in folder.iterdir() if folder.is_dir() else ():
        if inner.is_dir() and not inner.is_symlink():
            shutil.rmtree(inner)
        else:
            inner.unlink()


def _run(step: Step, terminal: Terminal, in_process: bool, lock: int | None) -> None:
    if in_process:
        worker.run(step.folder.resolve())
        return
    if step.stage.interactive:
        code, last, stopped = _interactive(step), list[str](), False
    else:
        code, last, stopped = _batch(step, terminal, lock)
    if code in STOPPED or (code < 0 and stopped):
        raise Interrupted(f"{step.name}: stopped.{_afterwards(step)}")
    if code:
        raise _failure(step, code, last)
    if stopped:
        raise Interrupted(f"{step.name}: complete; stopped before the next stage. The same command goes on.")


def _afterwards(step: Step, where: str = "", left: str = "what it left") -> str:
    """What the same command does after a stop. where: it is to be given. left: what it goes on from."""
    if step.stage.reuse == "never":
        return ""
    how = f"goes on from {left}" if getattr(step.stage, "goes_on", True) else "begins it anew"
    return f" The same command{where} {how}."


def _anew(plan: Plan, step: Step) -> bool:
    """Whether what it left is of something that is made again, and may go."""
    again = any(plan.step(name).state != "reuse" for name in step.needs)
    return again and plan.recipe.on_change == "replace"


def command(stage_folder: Path) -> list[str]:
    """What runs a stage alone."""
    return [sys.executable, "-m", "runner.worker", str(stage_folder)]


def _interactive(step: Step) -> int:
    """The stage owns the terminal; Ctrl-C is its own affair."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return subprocess.run(command(step.folder), check=False, env=calm(os.environ)).returncode
    finally:
        signal.signal(signal.SIGINT, before)


def _join(plan: Plan, node: int) -> list[Done]:
    """On another node than the first: take part in the stages that are spread over nodes, write nothing but a log.

    The first node, by the same command in the same (shared) folder, holds the lock, writes orders and does the rest.
    """
    refuse_changes(plan)
    os.environ[launch.NODE] = str(node)
    terminal, ended = Terminal(), list[Done]()
    own = plan.run / f".node{node}"
    with locked(own):
        other = nodes.Other(plan.run, plan.recipe.parallelism.timeout, own / LOCK)
        for step in plan.steps:
            spread = getattr(step.stage, "parallelism", None)
            if step.state == "reuse" or spread is None or spread.nodes == 1:
                continue
            terminal.stage(step, f"node {node}: waits for the first node's order in {step.folder}")
            start = time.monotonic()
            if not other.ordered(step.name):
                continue
            name = f"log.node{node}.txt"
            code, last, stopped = _batch(step, terminal, None, name, other)
            if code in STOPPED or (code < 0 and stopped):
                raise Interrupted(f"{step.name}: stopped.{_afterwards(step, ' on all nodes', 'the last checkpoint')}")
            if code:
                raise _failure(step, code, last, name)
            ended.append(Done(step, "done", time.monotonic() - start, None))
    return ended


def _batch(
    step: Step, terminal: Terminal, lock: int | None, name: str = "log.txt", other: nodes.Other | None = None
) -> tuple[int, list[str], bool]:  # fmt: skip
    last: deque[str] = deque(maxlen=TAIL)
    with (
        open(step.folder / name, "a", encoding="utf-8") as log,
        Process(command(step.folder), lock) as process,
        other.watching(step.name, process.end) if other else contextlib.nullcontext(),
    ):
        log.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {' '.join(command(step.folder))}\n")
        for line in process.lines(terminal.progress):
            log.write(line)
            log.flush()
            last.append(line.rstrip("\n"))
            terminal.line(line)
        terminal.progress_over()
    return process.code, list(last), process.asked_to_stop


def _failure(step: Step, code: int, last: list[str], name: str = "log.txt") -> RunnerError:
    """The worker's own sentence where it gave one, else that stage's last lines; what owns the terminal has told it."""
    if step.stage.interactive:
        ended = RunnerError if code == RunnerError.exit_code else StageError
        return ended(f"{step.name}: ended with exit code {code}, see above.")
    if code == RunnerError.exit_code and last:
        return RunnerError(last[-1])
    log = step.folder / name
    if code == StageError.exit_code and last and not any(line.lstrip().startswith(TRACED) for line in last):
        return StageError(f"stages.{step.name}: failed. {last[-1].strip()} Its log: {log}")
    how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    shown = "\n".join(f"    {line}" for line in last)
    return StageError(f"stages.{step.name}: failed ({how}). Its last lines, more in {log}:\n{shown}")
