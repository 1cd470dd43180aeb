"""Where alerts go: printed, and a line of alerts.jsonl each."""

from collections.abc import Callable
from pathlib import Path

from runner.training.ledger import append

FILE = "alerts.jsonl"


def say(folder: Path) -> Callable[[str], None]:
    """Print a sentence and write it down."""

    def told(sentence: str) -> None:
        print(f"alert: {sentence}", flush=True)
        append(folder / FILE, {"alert": sentence})

    return told
