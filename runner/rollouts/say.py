"""Where alerts go: printed, and a line of alerts.jsonl each, with the update (from 1) before which it was said."""

from collections.abc import Callable
from pathlib import Path

from runner.training.ledger import append

FILE = "alerts.jsonl"


def say(folder: Path) -> Callable[[int, str], None]:
    """Print a sentence and write it down."""

    def told(update: int, sentence: str) -> None:
        print(f"alert: {sentence}", flush=True)
        append(folder / FILE, {"update": update, "alert": sentence})

    return told
