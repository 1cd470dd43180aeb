"""A stage on two real processes: who speaks, who writes, what a failure, a hang, a signal and a kill leave behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runner.__main__ import main
from runner.core import artifact
from runner.core.specs import Parallelism
from runner.engines import launch, ranks
from runner.engines.ranks import free_port
from tests.test_execute import wait_for, workers_of

STAGE = '''
"""Meets the other ranks, then does what is wanted of it."""

import os
import time
from datetime import timedelta
from typing import ClassVar

from runner.core.artifact import Artifact
from runner.core.errors import DataError, Interrupted, StageError
from runner.core.schema import component
from runner.core.specs import Model, Parallelism


@component
class Meet:
    """Meets."""

    model: Model
    parallelism: Parallelism
    does: str = ""
    accepts: ClassVar[dict[str, tuple[str, ...]]] = {}
    reuse: ClassVar[str] = "always"
    interactive: ClassVar[bool] = False

    def produces(self) -> str:
        return "model"

    def check(self, roots, key) -> None:
        pass

    def run(self, job):
        rank = int(os.environ["RANK"])
        print(f"rank {rank} of {os.environ['WORLD_SIZE']}", flush=True)
        if self.does == "mistake":
            time.sleep(0 if rank else 5)
            raise DataError("rows.jsonl:3: is not JSON. Mend the line.")
        if self.does == "break" and rank == 0:
            raise StageError("meet: update 3 had no finite loss. Lower optim.lr.")
        if self.does == "fail" and rank == 1:
            raise ValueError("one alone")
        while self.does in ("work", "fail", "break"):
            time.sleep(0.05)
            if rank == 0:
                job.progress.update(1, 2, "ticks")
            if job.stopping():
                raise Interrupted(f"{job.name}: stopped")
        import torch

        torch.distributed.init_process_group("gloo", timeout=timedelta(seconds=self.parallelism.timeout))
        total = torch.ones(1)
        torch.distributed.all_reduce(total)
        if self.does == "hang" and rank == 1:
            time.sleep(600)
        if self.does == "die" and rank == 0:
            os._exit(9)
        torch.distributed.all_reduce(total)
        return Artifact("model", str(job.folder), metrics={"rank": rank, "total": int(total)})
'''
RECIPE = """\
# Two processes meet.
# @package _global_
name: met
model: some/model
parallelism: {preset: ddp, gpus: 2}
stages:
  meet: {kind: meet}
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run's folder, in a user's folder with the stage kind `meet`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name, text in {"plugins/stages/meet.py": STAGE, "recipes/met.yaml": RECIPE}.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True)
        file.write_text(text)
    return tmp_path / "outputs" / "met"


def start(*words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "runner", "+recipe=met", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def text(file: Path) -> str:
    return file.read_text() if file.is_file() else ""


def test_two_ranks_meet_and_the_first_alone_speaks_and_writes(run: Path, capfd: pytest.CaptureFixture[str]):
    assert main(["+recipe=met"]) == 0
    made = artifact.read(run / "meet")
    assert made is not None and made.metrics == {"rank": 0, "total": 4}
    printed = capfd.readouterr().out
    assert "rank 0 of 2" in printed and "rank 1 of 2" not in printed
    assert "rank 1 of 2" in text(run / "meet" / "log.rank1.txt")
    assert not workers_of(run)


def test_the_log_of_the_rank_that_failed_is_shown(run: Path, capfd: pytest.CaptureFixture[str]):
    assert main(["+recipe=met", "stages.meet.does=fail"]) == 1
    told = capfd.readouterr().err
    assert told.startswith("stages.meet: failed (exit code 1).") and "ValueError: one alone" in told
    assert "rank 1 failed first (exit code 1). Its last lines, more in " in told
    assert not workers_of(run)


def test_a_rank_that_leaves_a_process_behind_is_still_the_first(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """The process holds what the rank spoke through; a rank that failed later was blamed."""
    script = (
        "import os, subprocess, time\n"
        "if os.environ['RANK'] == '0':\n"
        "    subprocess.Popen(['sleep', '8'])\n"
        "    os.kill(os.getpid(), 9)\n"
        "time.sleep(2)\n"
        "raise SystemExit(1)\n"
    )
    told = launch.ranks(Parallelism(preset="ddp", gpus=2), 0, {}, free_port())
    began = time.monotonic()
    assert ranks.run([sys.executable, "-c", script], told, tmp_path, 10) == 1
    assert time.monotonic() - began < 7
    assert "rank 0 failed first (killed by signal 9" in capfd.readouterr().out


def test_the_sentence_of_a_first_rank_that_failed_is_what_the_command_ends_with(
    run: Path, capfd: pytest.CaptureFixture[str]
):
    assert main(["+recipe=met", "stages.meet.does=break"]) == 1
    told = capfd.readouterr().err
    assert "failed first (exit code 1): meet: update 3 had no finite loss. Lower optim.lr. Its log: " in told


def test_a_mistake_that_all_find_is_told_once(run: Path, capfd: pytest.CaptureFixture[str]):
    assert main(["+recipe=met", "stages.meet.does=mistake"]) == 2
    told = capfd.readouterr()
    assert told.err == "rows.jsonl:3: is not JSON. Mend the line.\n"
    assert "Thread" not in told.out and "File " not in text(run / "meet" / "log.txt")  # nobody hung


def test_a_hang_is_named(run: Path, capfd: pytest.CaptureFixture[str]):
    assert main(["+recipe=met", "stages.meet.does=hang", "parallelism.timeout=2"]) == 1
    log = run / "meet" / "log.rank1.txt"
    assert f"rank 0 waited 2 s for the others in vain: rank 1 hung. Where: {log}." in capfd.readouterr().err
    assert "meet.py" in text(log) and " in run" in text(log)  # the line where it stood
    assert not workers_of(run)


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_a_signal_reaches_all_ranks_once(run: Path, number: signal.Signals):
    process = start("stages.meet.does=work")
    wait_for(lambda: "rank 0 of 2" in text(run / "meet" / "log.txt"), 60)
    process.send_signal(number)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert told.count("stopping: devices stop together, after the update that is running") == 1  # an update may be long
    assert told.count("meet: stopped\n") == 1 and "meet: stopped\n" in text(run / "meet" / "log.rank1.txt")
    assert not workers_of(run)


@pytest.mark.parametrize(
    "whom", ["parent", *(pytest.param(one, marks=pytest.mark.slow) for one in ("launcher", "rank"))]
)
def test_a_kill_leaves_no_orphan(run: Path, whom: str):
    process = start("stages.meet.does=work")
    wait_for(lambda: len(workers_of(run)) == 3 and "rank 0 of 2" in text(run / "meet" / "log.txt"), 60)
    workers = sorted(workers_of(run))
    os.kill({"parent": process.pid, "launcher": workers[0], "rank": workers[1]}[whom], signal.SIGKILL)
    wait_for(lambda: not workers_of(run), 10)
    told, _ = process.communicate(timeout=10)
    assert process.returncode == (-9 if whom == "parent" else 1)
    assert ("(killed by signal 9, as where memory runs out)" in told) == (whom == "rank")
    assert not (run / "meet" / "artifact.json").exists()


def test_two_nodes_meet_in_one_folder(run: Path):
    """The same command on both, each told which it is; the second joins, and the first alone writes the run's files."""
    two = [
        "parallelism.gpus=1",
        "parallelism.nodes=2",
        "parallelism.master=127.0.0.1",
        f"parallelism.port={free_port()}",
    ]
    second = start(*two, "parallelism.node_rank=1")
    first = start(*two, "parallelism.node_rank=0")
    told = [process.communicate(timeout=120)[0] for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], told
    assert "rank 0 of 2" in text(run / "meet" / "log.txt") and "rank 1 of 2" in text(run / "meet" / "log.node1.txt")
    assert artifact.read(run / "meet").metrics == {"rank": 0, "total": 4}  # type: ignore[union-attr]


def test_a_second_node_ends_when_the_first_fails_before_its_order(run: Path):
    """It waited for ever."""
    alone = "+stages.early={kind: meet, parallelism: {preset: single, gpus: 1, nodes: 1}}"
    needs = "stages.meet.model=stage:early"
    two = ["parallelism.gpus=1", "parallelism.nodes=2", "parallelism.master=127.0.0.1", alone, needs]
    second = start(*two, "parallelism.node_rank=1")
    first = start(*two, "parallelism.node_rank=0")
    told = [process.communicate(timeout=120)[0] for process in (first, second)]
    assert [first.returncode, second.returncode] == [1, 1], told
    assert "meet: the first node ended: stages.early: failed (exit code 1)." in told[1]
    assert not (run / "meet").exists()


def test_a_node_whose_peer_died_says_so(run: Path):
    """It was a traceback of the library that sends, with no word of another node."""
    two = ["parallelism.gpus=1", "parallelism.nodes=2", "parallelism.master=127.0.0.1", "stages.meet.does=die"]
    two.append(f"parallelism.port={free_port()}")
    second = start(*two, "parallelism.node_rank=1")
    first = start(*two, "parallelism.node_rank=0")
    told = [process.communicate(timeout=120)[0] for process in (first, second)]
    assert [first.returncode, second.returncode] == [1, 1], told
    assert "rank 1 lost its connection to a device of another node, which has ended: look there." in told[1]


def test_nodes_that_do_not_know_where_to_meet_are_one_sentence(run: Path, capfd: pytest.CaptureFixture[str]):
    assert main(["+recipe=met", "parallelism.nodes=2"]) == 2
    assert "parallelism.nodes: 2 nodes, and nothing says which of them this is." in capfd.readouterr().err


def test_where_nodes_meet_is_known_before_any_stage_runs(run: Path, capfd: pytest.CaptureFixture[str]):
    """Hours of an earlier stage came before the sentence."""
    assert main(["+recipe=met", "parallelism.nodes=2", "parallelism.node_rank=0"]) == 2
    assert "parallelism.nodes: 2 nodes, and nothing says where they meet." in capfd.readouterr().err
    assert not (run / "meet").exists()
