"""Sends files to a hub in a process of its own: Ctrl-C stops at once, and a library's words stay out of sight."""

import hashlib
import os
import re
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from queue import Empty
from typing import Any

from runner.core.errors import ConfigError, Interrupted, RunnerError, StageError
from runner.core.job import Job
from runner.models.hub import unreachable
from runner.models.repository import Repository, failure, repository
from runner.stages._package import README

MARK = re.compile(r"<!-- written by the recipe runner: (\w{16}) -->\n?")
FORM = re.compile("默认介绍模[板版]")  # the page that ModelScope lays into a new repository
PATIENCE = 0.2  # seconds between looks at whether the user asked to stop


@dataclass(frozen=True)
class Order:
    """What to send where. files: path in the repository -> file here. own: whether the user wrote README.md."""

    hub: str
    name: str
    revision: str | None
    private: bool
    license: str | None
    message: str
    files: Mapping[str, Path]
    own: bool


@dataclass(frozen=True)
class Sent:
    """address: of the repository's page. names: files that were sent. private: whether the repository is."""

    address: str
    names: tuple[str, ...]
    private: bool


def marked(card: str) -> str:
    """A card with a mark of what it said when it was written, so that a person's changes show."""
    return f"{card}\n<!-- written by the recipe runner: {_mark(card)} -->\n"


def untouched(card: str) -> bool:
    """Whether nobody changed a card since it was written by us, or by the hub."""
    mark = MARK.search(card)
    return FORM.search(card) is not None or (mark is not None and _mark(card[: mark.start()]) == mark.group(1))


def _mark(card: str) -> str:
    return hashlib.sha256(card.strip().encode()).hexdigest()[:16]


def send(order: Order, job: Job) -> Sent:
    """Send what the hub does not hold yet.

    Raises:
        StageError: the hub failed, or does not answer. ConfigError: it refuses. Interrupted: the user stopped it.
    """
    key = f"stages.{job.name}.repo"
    silence = unreachable(order.hub)
    if silence:
        raise StageError(f"stages.{job.name}.hub: {order.hub} does not answer ({silence}). Nothing was sent.")
    context = get_context("spawn")
    words = context.Queue()
    process = context.Process(target=_work, args=(order, key, words), daemon=True)
    process.start()
    try:
        while True:
            if job.stopping():
                raise Interrupted(f"{job.name}: stopped. What the hub holds by now is not sent again.")
            try:
                kind, value = words.get(timeout=PATIENCE)
            except Empty:
                if process.is_alive() or not words.empty():
                    continue
                raise StageError(f"{key}: the process that sends ended (exit code {process.exitcode}).") from None
            if kind == "line":
                print(value, flush=True)
            elif kind == "done":
                job.progress.update(value[0], value[1], "files")
            elif kind == "failed":
                raise value
            else:
                return Sent(*value)
    finally:
        process.kill()
        process.join()


def _work(order: Order, key: str, words: Any) -> None:
    """The process."""
    import logging
    from threading import RLock

    from tqdm import tqdm

    tqdm.set_lock(RLock())  # its own lock is for several processes, and Python complains of those that a kill leaves
    logging.disable(logging.CRITICAL)  # what libraries log may quote a request, and what they print is theirs
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        try:
            to = repository(order.hub, order.name, order.revision)
            words.put(("sent", _send(order, to, key, words)))
        except RunnerError as error:
            words.put(("failed", error))
        except Exception as error:  # noqa: BLE001 - the two libraries share no error
            words.put(("failed", failure(error, order.hub, order.name, key)))


def _send(order: Order, to: Repository, key: str, words: Any) -> tuple[str, tuple[str, ...], bool]:
    private = to.make(order.private, order.license)
    if order.private and not private:
        fix = "Make it private there, take another name, or say private: false."
        raise ConfigError(key.removesuffix("repo") + "private", f"{order.name} is there already, and public", fix)
    if private and not order.private:
        words.put(("line", f"{order.name} is private there, and stays so"))
    held = to.files()
    files = {path: file for path, file in order.files.items() if path not in held or not held[path].is_same(file)}
    if README in files and README in held and not order.own and not untouched(to.text(README)):
        words.put(("line", "its README.md was written by a person there, and stays"))
        del files[README]
    size = sum(file.stat().st_size for file in files.values())
    there = len(order.files) - len(files)
    words.put(("line", f"{len(files)} files to send ({size:,} bytes), {there} there already"))
    if files:
        to.send(files, order.message, lambda done, total: words.put(("done", (done, total))))
    words.put(("line", to.address))
    return to.address, tuple(files), private
