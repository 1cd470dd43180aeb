"""The whole command, train and merge, killed at any moment and given again: it ends in the same place, to the bit.

Moments are told by what lies in the run's folder; whom the kill hits, and how long after, is drawn.
"""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.test_execute import alive, wait_for
from tests.tiny import tiny_model
from tests.training.test_resume import figures
from tests.user import talk

ROOT = Path(__file__).parents[1]
RECIPE = """\
# A short training of a tiny model, merged.
# @package _global_
name: whole
model: {id: tiny}
mix: {datasets: [rows.jsonl], validation: {rows: 8}}
train_type: {kind: lora, lora: {rank: 4, dropout: 0.1}}
batch: {rows: 4, tokens_per_device: 100}
epochs: 2.5
optim: {lr: 1e-2}
eval: {every: 4}
save: {every: 3}
log: {every: 1}
stages:
  merge: {kind: merge, model: "stage:train"}
  train: {kind: sft}
"""
FULL = RECIPE.replace("kind: lora", "kind: full").replace('  merge: {kind: merge, model: "stage:train"}\n', "")


class Run:
    """The command in a folder of its own run. At most one process of it at a time."""

    def __init__(self, folder: Path, name: str, recipe: str = "whole", *more: str) -> None:
        self.cwd, self.folder = folder, folder / name
        self.command = [sys.executable, "-m", "runner", f"+recipe={recipe}", f"output_dir={name}", *more]
        self.process: subprocess.Popen[str] | None = None
        self.begun = 0.0

    def start(self) -> "subprocess.Popen[str]":
        """Give the command."""
        self.begun = time.time()
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            self.command, cwd=self.cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        return self.process

    def ended(self) -> tuple[int, str]:
        """Exit code and output of the command, once it has ended and none of its processes is left."""
        assert self.process is not None
        output, _ = self.process.communicate(timeout=120)
        wait_for(lambda: not self.workers(), 10)
        return self.process.returncode, output

    def whole(self) -> str:
        """Give the command and let it come to its end."""
        self.start()
        code, output = self.ended()
        assert code == 0, output
        return output

    def workers(self) -> list[int]:
        """Living worker processes of this run."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    words = (entry / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
                    mine = "runner.worker" in words and (entry / "cwd").resolve() == self.cwd
                except OSError:
                    continue
                if mine and any(self.folder.name in Path(word).parts for word in words):
                    found.append(int(entry.name))
        return [pid for pid in found if alive(pid)]

    def wrote(self, name: str) -> bool:
        """Whether the process that was started last has written a file or made a folder."""
        try:
            return (self.folder / name).stat().st_mtime > self.begun
        except OSError:
            return False

    def updates(self) -> list[dict[str, Any]]:
        """Whole lines of metrics.jsonl."""
        file = self.folder / "train" / "metrics.jsonl"
        text = file.read_text() if file.is_file() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def weights(self) -> dict[str, str]:
        """A digest of each finished file of weights."""
        files = self.folder.glob("*/model/*.safetensors")
        return {str(file.relative_to(self.folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def set_up(run: Run) -> bool:
    return bool(run.workers())


def past(update: int) -> Callable[[Run], bool]:
    """So many updates are done."""
    return lambda run: run.wrote("train/metrics.jsonl") and any(line["update"] >= update for line in run.updates())


def saving(run: Run) -> bool:
    return run.wrote("train/.writing")


def evaluating(run: Run) -> bool:
    told = run.updates() if run.wrote("train/metrics.jsonl") else []
    return bool(told) and told[-1]["update"] % 4 == 0 and "loss" in told[-1]


def merging(run: Run) -> bool:
    return (run.folder / "train" / "artifact.json").is_file() and bool(run.workers())


MOMENTS: list[tuple[Callable[[Run], bool], float]] = [  # and the most seconds after it
    (set_up, 2.0), (past(2), 0.02), (saving, 0.005), (evaluating, 0.005), (merging, 2.0),
]  # fmt: skip
MANY: list[tuple[Callable[[Run], bool], float]] = [
    (set_up, 0.0), (set_up, 0.5), (set_up, 1.0), (set_up, 2.0), (past(1), 0.01), (saving, 0.0), (past(2), 0.01),
    (evaluating, 0.0), (saving, 0.003), (past(5), 0.01), (evaluating, 0.005), (saving, 0.01), (past(8), 0.01),
    (past(10), 0.01), (evaluating, 0.01), (saving, 0.02), (past(14), 0.01),
    (merging, 0.0), (merging, 1.0), (merging, 2.0),
]  # fmt: skip


def kill(run: Run, moment: Callable[[Run], bool], wait: float, rng: random.Random) -> str:
    """Kill at that moment. Returns whom: worker, parent, both, or nobody when the run was faster."""
    process = run.start()
    while not (moment(run) and run.workers()) and process.poll() is None:
        time.sleep(0.001)
    time.sleep(rng.uniform(0.0, wait))
    whom = rng.choice(["worker", "parent", "both"]) if process.poll() is None else "nobody"
    for pid in [
        *(run.workers() if whom in ("worker", "both") else []),
        *([process.pid] if whom in ("parent", "both") else []),
    ]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            whom = "nobody"
    code, output = run.ended()
    if whom == "worker" and code != 0:
        assert code == 1 and "killed by signal 9" in output, output
    elif whom in ("parent", "both"):
        assert code == -signal.SIGKILL
    return whom


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder, in which the runs `whole` and `full` were never interrupted."""
    made = tmp_path_factory.mktemp("stop").resolve()
    tiny_model(made / "tiny")
    (made / "rows.jsonl").write_text("".join(talk(f"What is {n} and {n}?", f"It is {n * 2}.") for n in range(40)))
    (made / "recipes").mkdir()
    (made / "recipes" / "whole.yaml").write_text(RECIPE)
    (made / "recipes" / "full.yaml").write_text(FULL)
    Run(made, "reference").whole()
    return made


def assert_same(one: Run, other: Run) -> None:
    assert one.weights() == other.weights() and one.weights()
    assert figures(one.folder / "train") == figures(other.folder / "train")


@pytest.mark.parametrize(
    ("seed", "moments"), [(5, MOMENTS), pytest.param(20, MANY, marks=pytest.mark.slow)], ids=["5 kills", "20 kills"]
)
def test_killed_at_any_moment(folder: Path, seed: int, moments: list[tuple[Callable[[Run], bool], float]]) -> None:
    """The same command goes on by itself; weights of adapter and merged model, and all figures, are the same."""
    run, rng = Run(folder, f"killed-{seed}"), random.Random(seed)
    hit = [kill(run, moment, wait, rng) for moment, wait in moments]
    run.whole()
    assert_same(run, Run(folder, "reference"))
    assert hit.count("nobody") <= len(hit) // 4, hit


def test_full_weights_killed_while_a_checkpoint_is_written(folder: Path) -> None:
    """Half a checkpoint is never gone on from."""
    reference, run = Run(folder, "full", "full"), Run(folder, "full-killed", "full")
    reference.whole()
    for wait in (0.002, 0.02):
        kill(run, lambda run: saving(run) and past(5)(run), wait, random.Random(1))
    run.whole()
    assert_same(run, reference)


DDP = ("parallelism=ddp", "parallelism.gpus=2")


@pytest.mark.parametrize("recipe", ["whole", pytest.param("full", marks=pytest.mark.slow)])
def test_two_devices_killed_together(folder: Path, recipe: str) -> None:
    """Parent and every rank killed in the middle, twice: the same command ends in the same place, to the bit."""
    reference, run = Run(folder, f"two-{recipe}", recipe, *DDP), Run(folder, f"two-{recipe}-killed", recipe, *DDP)
    reference.whole()
    for moment in (past(3), past(8)):
        process = run.start()
        while not moment(run) and process.poll() is None:
            time.sleep(0.001)
        assert len(run.workers()) >= 2, run.ended()
        for pid in (process.pid, *run.workers()):
            os.kill(pid, signal.SIGKILL)
        assert run.ended()[0] == -signal.SIGKILL
    assert "going on from checkpoint-" in run.whole()
    assert_same(run, reference)


def test_sigterm_in_the_middle(folder: Path) -> None:
    """Exit 130 within seconds, a checkpoint where it stood, nothing left running; the same command goes on."""
    run = Run(folder, "stopped")
    process = run.start()
    wait_for(lambda: past(4)(run), 60)
    process.send_signal(signal.SIGTERM)
    begin = time.monotonic()
    code, output = run.ended()
    assert (code, time.monotonic() - begin < 10) == (130, True), output
    assert "The same command goes on from there." in output
    stopped = run.updates()[-1]["update"]
    assert (run.folder / "train" / f"checkpoint-{stopped}" / "complete.json").is_file()
    assert f"going on from checkpoint-{stopped}" in run.whole()
    assert_same(run, Run(folder, "reference"))


def test_sigterm_to_parent_and_worker_at_once(folder: Path) -> None:
    """A cluster signals every process of a job, and the parent passes it on: that is one stop, not two."""
    run = Run(folder, "stopped-twice")
    process = run.start()
    wait_for(lambda: past(4)(run), 60)
    (worker,) = run.workers()
    os.kill(worker, signal.SIGTERM)
    time.sleep(0.002)
    os.kill(process.pid, signal.SIGTERM)
    code, output = run.ended()
    assert code == 130, output
    stopped = run.updates()[-1]["update"]
    assert (run.folder / "train" / f"checkpoint-{stopped}" / "complete.json").is_file()


ANSWERS = """\
# Two answers to each question; a few questions cannot be asked.
# @package _global_
name: answers
defaults: [{override /reward: [even]}]
model: {id: tiny}
sampling: {n: 2, temperature: 1.0, max_new_tokens: 8, logprobs: true}
backend: {batch_tokens: 400}
stages: {ask: {kind: infer, prompts: [asked.jsonl], write_batch_size: 8, max_errors: 50, min_reward: 0.5, show: 0}}
"""


def answered(run: Run) -> int:
    """Questions that need not be asked again."""
    journal, progress = run.folder / "ask" / "journal.jsonl", run.folder / "ask" / "progress.json"
    done = json.loads(progress.read_text())["rows"] if progress.is_file() else 0
    kept = journal.read_bytes().split(b"\n")[:-1] if journal.is_file() else []
    return int(done) + sum(json.loads(line)["row"] >= done for line in kept)


@pytest.mark.slow
def test_answers_killed_at_any_moment(folder: Path) -> None:
    """500 questions, ten kills: nothing lost, nothing twice. The rows are those of a run that nobody killed."""
    asked = (f"{row} " + "hello " * (3000 if row % 19 == 18 else row % 12) for row in range(500))
    rows = [json.dumps({"prompt": text, "level": row % 5}) for row, text in enumerate(asked)]
    (folder / "asked.jsonl").write_text("\n".join(rows) + "\n")
    (folder / "recipes" / "answers.yaml").write_text(ANSWERS)
    (folder / "plugins" / "rewards").mkdir(parents=True, exist_ok=True)
    plugin = "def even(completions, *, level):\n    return [float(n % 2 == 0) for n in level]\n"
    (folder / "plugins" / "rewards" / "even.py").write_text(plugin)
    reference, run, rng = Run(folder, "never-killed", "answers"), Run(folder, "ten-kills", "answers"), random.Random(5)
    reference.whole()
    hit = []
    for _ in range(10):
        before = answered(run)
        hit.append(
            kill(run, lambda run, least=before: run.wrote("ask/journal.jsonl") and answered(run) > least, 0.2, rng)
        )
    told = run.whole()
    one, other = ((each.folder / "ask" / "completions.jsonl").read_bytes() for each in (run, reference))
    assert one == other and one.count(b"\n") > 500
    assert "questions are answered already" in told and "nobody" not in hit
