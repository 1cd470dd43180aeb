"""Who hears the terminal's Ctrl-C: the chat alone. It goes to the whole foreground group, and an engine's own processes
in it would take it as the order to end.
"""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator
from typing import TextIO


@contextlib.contextmanager
def alone(source: TextIO) -> Iterator[None]:
    """Until the block ends this process is the terminal's foreground by itself, where it has processes of its own.

    Ctrl-Z does nothing meanwhile: whoever started this process could not tell that it sleeps.
    """
    group = os.getpgrp()
    if not (source.isatty() and multiprocessing.active_children()) or group in (os.getpid(), os.getsid(0)):
        yield
        return
    terminal = source.fileno()
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTTOU, signal.SIGTSTP)}
    os.setpgid(0, 0)
    os.tcsetpgrp(terminal, os.getpgrp())
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # whoever started it may be gone
            os.tcsetpgrp(terminal, group)
            os.setpgid(0, group)
        for number, handler in before.items():
            signal.signal(number, handler)
