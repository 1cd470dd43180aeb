"""Memory that ran out, of a GPU or of the machine, as one sentence with the way out."""

import contextlib
import re
from collections.abc import Iterator

from runner.core.errors import StageError

SIGNS = re.compile(r"out of memory|can't allocate memory|not enough memory", re.IGNORECASE)
ASKED = re.compile(r"(?:[Tt]ried|[Tt]ry(?:ing)?) to allocate ([\d.]+ ?\w+)")


@contextlib.contextmanager
def told(what: str, way_out: str) -> Iterator[None]:
    """Around work that needs memory.

    Args:
        what: is done. way_out: what to change.

    Raises:
        StageError: memory ran out.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError) or SIGNS.search(str(error))):
            raise
        asked = ASKED.search(str(error))
        size = f" (another {asked[1]})" if asked else ""
        raise StageError(f"backend: memory ran out while {what}{size}. {way_out}") from None
