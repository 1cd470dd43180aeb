"""One sentence an error, its exit code, and the near miss."""

import copy
import errno
import pickle

import pytest

from runner.core import errors
from runner.core.errors import ConfigError, RunnerError, StageError, disk_error, near_miss

CODES = {"StageError": 1, "Interrupted": 130}  # every other one is the user's mistake


def tree(kind: type[RunnerError]) -> list[type[RunnerError]]:
    """An error class and all below it."""
    return [kind, *(one for below in kind.__subclasses__() for one in tree(below))]


@pytest.mark.parametrize("kind", tree(RunnerError))
def test_every_error_knows_its_exit_code(kind: type[RunnerError]) -> None:
    assert kind.exit_code == CODES.get(kind.__name__, 2)


@pytest.mark.parametrize("kind", [one for one in tree(RunnerError) if one.__module__ == errors.__name__])
def test_every_error_is_drawn_in_the_tree(kind: type[RunnerError]) -> None:
    """The docstring of the module shows the whole tree with its codes."""
    drawn = {line.split()[1]: line.split()[-1] for line in (errors.__doc__ or "").splitlines() if "──" in line}
    assert kind is RunnerError or drawn[kind.__name__] == str(kind.exit_code)


def test_a_config_error_takes_its_place_in_front() -> None:
    error = ConfigError("optim.lr", "should be a number, not 'x'", "Write 1e-4.")
    assert str(error) == "optim.lr: should be a number, not 'x'. Write 1e-4."
    assert str(error.at("r.yaml:3")) == "r.yaml:3: optim.lr: should be a number, not 'x'. Write 1e-4."
    assert error.at("r.yaml:3").placed and not error.placed
    assert str(ConfigError("", "no recipe")) == "no recipe."


def test_the_first_line_of_what_a_library_says() -> None:
    assert errors.first_line(ValueError("Wrong.\nMore.")) == "Wrong"
    assert errors.first_line(ValueError("Wrong field:\n    it is 5.\nMore.")) == "Wrong field: it is 5"
    assert errors.first_line(ValueError()) == "ValueError"


def test_a_config_error_travels_between_processes() -> None:
    error = ConfigError("a.b", "wrong").at("command line")
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (str(again), again.key, again.placed) == (str(error), "a.b", True)


@pytest.mark.parametrize(
    ("word", "choices", "hint"),
    [
        ("lrr", ["lr", "name"], "Did you mean lr?"),
        ("zzz", ["b", "a"], "Choices: a, b."),
        ("zzz", [], ""),
        ("zzz", [f"name{number}" for number in range(41)], ""),
    ],
)
def test_near_miss(word: str, choices: list[str], hint: str) -> None:
    assert near_miss(word, choices) == hint


def test_a_full_disk_is_a_sentence_and_another_error_is_none() -> None:
    full = disk_error(OSError(errno.ENOSPC, "no space", "out/file"))
    assert isinstance(full, StageError)
    gone = disk_error(OSError(errno.ENOENT, "no file", "out"))
    assert str(gone).startswith("out: is gone: was the folder removed? What was complete stays")
    assert (
        str(full) == "out/file: the disk is full. Free some space. What was complete stays; the same command goes on."
    )
    assert str(disk_error(OSError(errno.ENOSPC, "no space"), "out/train")).startswith("out/train: the disk is full.")
    assert "shorter name" in str(disk_error(OSError(errno.ENAMETOOLONG, "too long", "outputs/xxx")))
    assert "(ulimit -f)" in str(disk_error(OSError(errno.EFBIG, "too large")))
    assert disk_error(OSError(errno.EINTR, "interrupted")) is None
    rust = Exception("I/O error: No space left on device (os error 28)")
    assert str(disk_error(rust, "out/merge")).startswith("out/merge: the disk is full.")
    assert disk_error(Exception("No such file or directory (os error 2)")) is None  # of what is read


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOENT, errno.ENOSPC])
def test_a_home_that_cannot_be_written_is_not_called_an_output_folder(number: int, monkeypatch) -> None:
    """The cache's own folder, and one above it that cannot be made: another output_dir would not help."""
    monkeypatch.setenv("RUNNER_CACHE", "/home/me/.cache/runner")
    for file in ("/home/me/.cache/runner/encoded/x", "/home/me/.cache"):
        said = str(disk_error(OSError(number, "no", file)))
        assert said.startswith(f"{file}: ") and "RUNNER_CACHE=/" in said and "output_dir" not in said
    assert "RUNNER_CACHE" not in str(disk_error(OSError(number, "no", "/data/outputs/x")))
