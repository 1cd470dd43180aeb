"""Every error a user can meet, as one tree. The sentence is written where the mistake is known.

    RunnerError
    ├── ConfigError    a key, value or option of the recipe or the command line   exit 2
    ├── PlanError      the graph: a cycle, a dangling name, work that must not be overwritten   exit 2
    ├── DataError      a file, a row, a label   exit 2
    ├── ModelError     a model folder, an adapter, a tokenizer   exit 2
    ├── PluginError    a reward or a rule of the user's   exit 2
    ├── Interrupted    Ctrl-C or SIGTERM   exit 130
    └── StageError     a stage that failed while it worked   exit 1

Form: ``<file or key path>: <what is wrong with which value>. <choices or fix>.``
"""

import difflib
import errno
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from runner.core.places import cache_folder


class RunnerError(Exception):
    """A sentence for the user. `exit_code` is the status that the command ends with."""

    exit_code = 2


class ConfigError(RunnerError):
    """A wrong key or value. `key` is the dotted path, so that the command line can add file and line."""

    def __init__(self, key: str, problem: str, fix: str = "") -> None:
        self.key, self.problem, self.fix = key, problem, fix
        self.placed = False
        super().__init__(self.sentence())

    def at(self, origin: str) -> "ConfigError":
        """The same error with its place: a file with its line, or "command line"."""
        made = ConfigError(self.key, self.problem, self.fix)
        made.placed = True
        made.args = (self.sentence(origin),)
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        """So that it travels between the processes of a sweep."""
        return ConfigError, (self.key, self.problem, self.fix), {"placed": self.placed, "args": self.args}

    def sentence(self, origin: str = "") -> str:
        """The whole sentence; `origin` is a file with its line, or "command line"."""
        place = ": ".join(part for part in (origin, self.key) if part)
        return f"{place}: {self.problem}. {self.fix}".rstrip() if place else f"{self.problem}. {self.fix}".rstrip()


class PlanError(RunnerError):
    """The run graph cannot be made or must not be run."""


class DataError(RunnerError):
    """Data that cannot be trained on or read."""


class ModelError(RunnerError):
    """A model, adapter or tokenizer that cannot be used."""


class PluginError(RunnerError):
    """A plugin that cannot be read, or whose signature does not fit."""


class Interrupted(RunnerError):
    """The user, or the cluster, asked to stop."""

    exit_code = 130


class StageError(RunnerError):
    """A stage failed while it worked."""

    exit_code = 1


DISK = {
    errno.ENOSPC: "the disk is full. Free some space",
    errno.EFBIG: "a file must not become that large here. Lift the limit (ulimit -f), or choose another output_dir",
    errno.EDQUOT: "the disk quota is used up. Free some space",
    errno.EROFS: "the file system is read-only. Choose another output_dir",
    errno.EACCES: "must not be written. Choose another output_dir or change its permissions",
    errno.ENOENT: "is gone: was the folder removed?",
    errno.EEXIST: "is there and is no folder. Choose another output_dir",
    errno.ENAMETOOLONG: "the name is too long. Choose a shorter name or output_dir",
    errno.ENOTDIR: "lies below something that is no folder. Choose another output_dir",
}


RUST = re.compile(r"\(os error (\d+)\)")  # how safetensors and tokenizers tell the system's error
FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS)  # of these none is about what is read


def disk_error(error: Exception, where: str = "output") -> StageError | None:
    """The sentence for a disk that cannot be written, or None for other errors.

    Args:
        where: the folder that is written to; an error in the middle of a file does not say its name.
    """
    number = error.errno if isinstance(error, OSError) else disk_number(error)
    if number not in DISK:
        return None
    told = DISK[number] + ("" if DISK[number].endswith("?") else ".")
    file = str(getattr(error, "filename", None) or where)
    named, cache = Path(file), cache_folder()
    if named.is_absolute() and (named.is_relative_to(cache) or cache.is_relative_to(named)):
        reason = "nothing can be kept there" if number == errno.ENOENT else told.partition(".")[0]
        told = f"{reason}. Name a folder for what may be kept: RUNNER_CACHE=/path/to/folder."
    return StageError(f"{file}: {told} What was complete stays; the same command goes on.")


def disk_number(error: BaseException) -> int | None:
    """The system's number for a disk that takes no more, in the words of libraries that are not Python's."""
    found = RUST.search(str(error))
    return int(found[1]) if found and int(found[1]) in FULL else None


def missing_extra(error: ModuleNotFoundError) -> RunnerError | None:
    """The sentence for a module that comes with an extra of this package, or None for other modules."""
    from importlib import metadata

    module = error.name or ""
    try:
        wanted = metadata.requires("recipe-runner") or []
    except metadata.PackageNotFoundError:
        return None
    told = [re.match(r"([\w-]+).*extra == .(\w+)", line) for line in wanted]
    extras = {match[1].replace("-", "_"): match[2] for match in told if match}
    return RunnerError(f"{module} is not installed. Install the extra: {extras[module]}.") if module in extras else None


def first_line(error: Any) -> str:
    """What a library says, for a sentence of ours: its first line without a stop, the next one too where it announces
    one; the mistakes that pydantic counts.
    """
    if hasattr(error, "errors") and callable(error.errors):
        return "; ".join(str(told["msg"]).removeprefix("Value error, ").rstrip(".") for told in error.errors())
    lines = [line.strip() for line in str(error).strip().splitlines()] or [type(error).__name__]
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1]).rstrip(".")


def told(error: Exception) -> str:
    """What a library says, with the kind of error where that is no sentence."""
    words, kind = first_line(error), type(error).__name__
    return words if " " in words or words == kind else f"{kind} {words}"


def near_miss(word: str, choices: Iterable[str]) -> str:
    """Return "Did you mean x?" for the nearest choice, or the choices themselves when few, or nothing."""
    known = sorted(set(choices))
    match = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if match:
        return f"Did you mean {match[0]}?"
    return f"Choices: {', '.join(known)}." if known and len(known) <= 40 else ""
