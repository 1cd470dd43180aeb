"""One run at a time in a folder.

The lock is the kernel's (flock): the parent holds it and, through an inherited descriptor, the worker too. It falls by
itself when both have ended, however they ended, so a stale lock does not exist.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from runner.core.errors import PlanError

FILE = ".lock"


@contextlib.contextmanager
def locked(run: Path) -> Iterator[int]:
    """Hold the run's lock; yields its descriptor, for workers to inherit.

    Raises:
        PlanError: another run works in the folder, or it cannot be written.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
        handle = os.open(run / FILE, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise PlanError(f"{run}: cannot be written ({error.strerror}). Choose another output_dir.") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(handle, 500, 0).decode("utf-8", "replace").strip() or "another process"
        os.close(handle)
        raise PlanError(
            f"{run}: another run works here ({holder}). Wait for it, or choose another output_dir."
        ) from None
    except OSError as error:
        print(f"{run}: has no locks ({error.strerror}), so a second run here would not be refused", flush=True)
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} since {time.strftime('%Y-%m-%d %H:%M:%S')}\n".encode(), 0)
        yield handle
    finally:
        os.close(handle)


@contextlib.contextmanager
def unlocked() -> Iterator[None]:
    """For runs of stages that leave nothing behind, such as chat."""
    yield None
