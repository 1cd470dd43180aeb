"""One piece of work at a time beside the training, in a thread: what it waits for (the disk) costs no update.

The thread ends before the training does. What went wrong in it is raised in the training, when that looks.
"""

import threading
from collections.abc import Callable


class Background:
    """See the module. Only the process that began a piece of work has something to wait for."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def begin(self, work: Callable[[], None]) -> None:
        """Do it from now on; the piece before it must have been waited for."""
        assert self._thread is None, "the work before this one was not waited for"

        def run() -> None:
            try:
                work()
            except Exception as error:  # noqa: BLE001 - raised in the training, by `wait`
                self._error = error

        self._thread = threading.Thread(target=run, name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Until nothing is done any more; raises what went wrong, once."""
        self.join()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def join(self) -> None:
        """Until nothing is done any more, whatever came of it."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def check(self) -> None:
        """Raise what went wrong in work that has ended; never waits."""
        if self._thread is not None and not self._thread.is_alive():
            self.wait()
