"""No process outlives the one that started it, also where that one is killed: an engine would keep a GPU and a lock.

Linux's PR_SET_PDEATHSIG (prctl(2)); elsewhere nothing is done. It counts the thread that started a process, so such
processes are started by the main thread.
"""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterator

PR_SET_PDEATHSIG = 1
_watched = False  # whether a process that is forked now ends with this one
_known = False  # whether forks are listened to


def end_with_parent() -> None:
    """Said by the process that is to end."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


@contextlib.contextmanager
def forks_end_with_this() -> Iterator[None]:
    """What is forked in the block, by whatever library, ends with this process; what a fork forks is its own affair."""
    global _watched, _known
    if not _known:
        os.register_at_fork(after_in_child=_forked)
        _known = True
    _watched = True
    try:
        yield
    finally:
        _watched = False


def _forked() -> None:
    global _watched
    if _watched:
        _watched = False
        end_with_parent()
