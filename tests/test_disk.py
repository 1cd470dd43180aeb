"""A disk that is full, read-only, or gone: one sentence, exit 1, earlier checkpoints intact. On real file systems."""

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner.training import checkpoints
from tests.test_execute import wait_for
from tests.user import User, tiny_folder, user_at_work  # noqa: F401 - fixtures

ROOT = Path(__file__).parents[1]
WORDS = ["recipe=mine", "train_type=full", "save.every=1", "save.keep=1", "log.every=1"]


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """A function that mounts a file system in memory at ./outputs, or changes its options."""

    def mount(options: str) -> None:
        folder = tmp_path / "outputs"
        folder.mkdir(exist_ok=True)
        again = "remount," if os.path.ismount(folder) else ""
        command = ["mount", "-t", "tmpfs", "-o", again + options, "none", str(folder)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("this user may not mount a file system")

    yield mount
    if os.path.ismount(tmp_path / "outputs"):
        subprocess.run(["umount", str(tmp_path / "outputs")], check=True)


def start(user: User, *words: str) -> "subprocess.Popen[str]":
    """The command in processes of its own."""
    environment = {name: value for name, value in os.environ.items() if name != "RUNNER_PARENT_FD"}
    environment["PYTHONPATH"] = f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"
    return subprocess.Popen(
        [sys.executable, "-m", "runner", *words], cwd=user.root, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_a_disk_that_is_full_while_a_checkpoint_is_written(user: User, mounted: Callable[[str], None]) -> None:
    """The first checkpoint fits, the second does not; with more room the same command goes on from the first."""
    mounted("size=2m")
    process = start(user, *WORDS)
    output, told = process.communicate(timeout=120)
    train = user.root / "outputs" / "mine" / "train"
    assert process.returncode == 1, output + told
    assert "cannot be written" in told and "Checkpoints made before are whole: make room" in told
    assert "Traceback" not in told + output
    (kept,) = checkpoints.newest_first(train)
    assert checkpoints.flaw(kept) is None and not (train / ".writing").exists()
    mounted("size=50m")
    process = start(user, *WORDS)
    output, told = process.communicate(timeout=120)
    assert process.returncode == 0, told
    assert f"going on from {kept.name}" in output


def test_a_disk_that_is_full_from_the_start(user: User, mounted: Callable[[str], None]) -> None:
    """Nothing at all can be written."""
    mounted("size=4k")
    code, told = user.tell(*WORDS)
    assert code == 1 and "the disk is full. Free some space." in told and told.count("\n") == 1


def test_a_folder_that_may_only_be_read(user: User, mounted: Callable[[str], None]) -> None:
    """A begun training on a file system that has become read-only: told at once, nothing lost."""
    mounted("size=50m")
    assert user.tell(*WORDS)[0] == 0
    train = user.root / "outputs" / "mine" / "train"
    (train / "artifact.json").unlink()
    mounted("ro")
    code, told = user.tell(*WORDS)
    assert code in (1, 2) and told.count("\n") == 1, told
    assert "read-only" in told.lower() and "Choose another output_dir" in told
    assert checkpoints.flaw(checkpoints.newest_first(train)[0]) is None


def test_a_folder_that_is_taken_away_underneath(user: User) -> None:
    """The training ends with a sentence about the folder instead of training into nothing."""
    process = start(user, *WORDS, "epochs=400", "save.every=100")
    run = user.root / "outputs" / "mine"
    metrics = run / "train" / "metrics.jsonl"
    wait_for(lambda: (metrics.is_file() and metrics.read_text().count("\n") > 3) or process.poll() is not None, 60)
    run.rename(user.root / "elsewhere")
    output, told = process.communicate(timeout=60)
    assert process.returncode == 1, output + told
    assert "is gone: was the folder removed?" in told and "Traceback" not in told


def test_a_model_that_does_not_fit_is_one_sentence(user: User) -> None:
    """Weights are written by a library with errors of its own: it was a traceback at the end of a merge."""
    assert user.tell("recipe=mine")[0] == 0
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        code, told = user.tell("recipe=merged", "model=outputs/mine")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == 1 and "a file must not become that large here." in told and "Traceback" not in told
    assert not (user.root / "outputs" / "merged" / "merge" / "model").exists()
