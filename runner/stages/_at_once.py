"""Work that Ctrl-C or SIGTERM ends in its middle, as half of it is of no use: loading a model, merging, scoring."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

from runner.core.errors import Interrupted
from runner.core.job import Job


@contextlib.contextmanager
def at_once(job: Job, doing: str, told: bool = True) -> Iterator[None]:
    """Until the block ends, a request to stop ends the work where it stands, and what it has started.

    A process of the stage's own ends with it: a library that is interrupted while it is imported may answer any
    exception by an abort. Elsewhere the request is an exception.

    Args:
        doing: what the sentence says, for example "loading a model". told: False, somebody else says it.

    Raises:
        Interrupted: the user asked to stop, before or meanwhile.
    """
    sentence = f"{job.name}: stopped while {doing}"
    asked = job.stopping()
    before: dict[int, Any] = {}

    def stop(number: int, frame: Any) -> None:
        nonlocal asked
        asked = True
        _end_children()
        if job.own_process:
            os.write(2, f"{sentence}\n".encode() if told else b"")  # print is not for a signal's handler
            os._exit(Interrupted.exit_code)
        if callable(before[number]):
            before[number](number, frame)
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, stop)
    try:
        if not asked:
            yield
    except BaseException:
        if not asked:
            raise
    finally:
        for known, handler in before.items():
            signal.signal(known, handler)
    if asked or job.stopping():
        raise Interrupted(sentence)


def _end_children() -> None:
    """Engines, replicas, rewards: nobody waits for them any more. One that cannot be ended must not save the others,
    nor keep the request from who listened before.
    """
    for process in multiprocessing.active_children():
        try:
            process.kill()
        except Exception as error:  # noqa: BLE001 - told
            os.write(2, f"{process!r} was not ended: {error!r}\n".encode())
