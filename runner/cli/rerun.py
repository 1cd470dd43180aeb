"""`runner rerun RUN`: go on with a run from its own config.yaml, without the recipe or the command that made it."""

from collections.abc import Sequence
from pathlib import Path

from runner import execute, folder, plan
from runner.cli.argv import without_places
from runner.core.errors import ConfigError


def main(words: Sequence[str], places: Sequence[Path]) -> int:
    """Plan what config.yaml says, in the same folder, and run what is not complete.

    Raises:
        ConfigError: no run folder. RunnerError: what a run can raise.
    """
    words = without_places("rerun", words)
    if len(words) != 1:
        raise ConfigError("rerun", f"takes one run folder, not {len(words)}", "Write: rerun outputs/NAME.")
    file = Path(words[0]) / "config.yaml"
    if not file.is_file():
        raise ConfigError("rerun", f"{words[0]!r} is no run folder", "A run's folder holds config.yaml.")
    execute.execute(plan.make(folder.read(file), places, Path(words[0])))
    return 0
