"""One bad input: how it comes about, and what the user is told."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.user import User


@dataclass(frozen=True)
class Case:
    """sentence: what is told, the working directory as {root}. rows: of rows.jsonl. words: of the command line.

    files: other files, name and text. harm: what is done to the folder before the command.
    """

    sentence: str
    rows: str | bytes | None = None
    words: str = "recipe=mine"
    code: int = 2
    files: tuple[tuple[str, str], ...] = ()
    harm: Callable[[User], None] | None = None
