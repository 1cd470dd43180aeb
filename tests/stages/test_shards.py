"""Questions shared out over nodes: two processes on this machine, in one folder, each told which node it is."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from runner.core import schema
from runner.core.artifact import read
from runner.core.errors import StageError
from runner.core.job import Job
from runner.stages._shards import bounds
from runner.stages.infer import Infer
from tests.tiny import tiny_model

ROOT = Path(__file__).parents[2]
RECIPE = """\
# Ask and score.
# @package _global_
name: both
model: {id: tiny}
parallelism: {preset: ddp}
backend: {name: transformers, batch_tokens: 300}
sampling: {max_new_tokens: 30, temperature: 1.0}
stages:
  ask: {kind: infer, prompts: [rows.jsonl], result_path: answers.jsonl, write_batch_size: 3}
  score: {kind: evaluate, prompts: [rows.jsonl], reward: {soft_overlong: {params: {max_length: 9, cache: 5}}}}
"""


@pytest.fixture
def user(tmp_path: Path) -> Path:
    """A folder with a model, 31 rows and a recipe."""
    tiny_model(tmp_path / "tiny")
    rows = [{"id": f"q{n}", "query": "hello " * (n % 7 + 1)} for n in range(31)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/both.yaml").write_text(RECIPE)
    return tmp_path


def begin(user: Path, *words: str, **environment: str) -> "subprocess.Popen[str]":
    """The command on one node."""
    known = {name: value for name, value in os.environ.items() if name not in ("NODE_RANK", "RANK", "SLURM_NODEID")}
    return subprocess.Popen(
        [sys.executable, "-m", "runner", "+recipe=both", *words], cwd=user, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, env={**known, "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Its exit code and words."""
    told = process.communicate(timeout=200)[0]
    return process.returncode, told


def together(user: Path, *words: str) -> list[tuple[int, str]]:
    """Both nodes to their ends: exit codes and words."""
    two = [*words, "parallelism.nodes=2"]
    running = [begin(user, *two, SLURM_NODEID="1"), begin(user, *two, "parallelism.node_rank=0")]
    return [ended(process) for process in running]


def test_two_nodes_make_what_one_makes(user: Path) -> None:
    """The same rows in the same order and the same scores, though a node was killed in between."""
    whole = begin(user, "output_dir=one", "stages.ask.result_path=null")
    killed = begin(user, "output_dir=two", "parallelism.nodes=2", "parallelism.node_rank=1")
    first = begin(user, "output_dir=two", "parallelism.nodes=2", "parallelism.node_rank=0")
    journal, end = user / "two/ask/node1_of_2/journal.jsonl", time.monotonic() + 100
    while not (journal.is_file() and journal.stat().st_size) and time.monotonic() < end:
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    time.sleep(0.5)
    first.send_signal(signal.SIGINT)  # it would wait for the other
    assert [ended(process)[0] for process in (killed, first, whole)] == [-signal.SIGKILL, 130, 0]
    assert not (user / "answers.jsonl").exists()
    both = together(user, "output_dir=two")
    assert [code for code, _ in both] == [0, 0], both
    made = read(user / "two/ask")
    assert made is not None and made.path == str(user / "answers.jsonl") and made.metrics["rows"] == 31
    assert (user / "answers.jsonl").read_bytes() == (user / "one/ask/completions.jsonl").read_bytes()
    assert (user / "two/score/scores.jsonl").read_bytes() == (user / "one/score/scores.jsonl").read_bytes()
    assert (user / "two/ask/log.node1.txt").is_file()
    again = together(user, "output_dir=two")
    assert [code for code, _ in again] == [0, 0] and "reused" in again[1][1]


def infer(folder: Path, model: Path, **parallelism: Any) -> Any:
    """The stage on the first of two nodes."""
    values = {
        "model": {"id": str(model)}, "template": {}, "sampling": {"max_new_tokens": 2}, "questions": ["a", "b"],
        "backend": {"name": "transformers"},
        "parallelism": {"preset": "ddp", "nodes": 2, "node_rank": 0, **parallelism},
    }  # fmt: skip
    return schema.build(Infer, values, "stages.ask").run(Job("ask", folder, folder, fingerprint="f"))


def test_what_became_of_another_node_is_told(user: Path) -> None:
    """That it failed, with its words, or that it is silent; words of an earlier try are no news."""
    (user / "node1_of_2").mkdir()
    (user / "node1_of_2/failed.txt").write_text("the model is too large.")
    time.sleep(0.05)
    (user / "job.yaml").write_text("")
    with pytest.raises(
        StageError, match=r"node 1 has written nothing for 1 s. Does it run\? Its words: .*log.node1.txt"
    ):
        infer(user, user / "tiny", timeout=1)
    (user / "node1_of_2/failed.txt").write_text("the model is too large.")
    with pytest.raises(StageError, match=r"node 1: the model is too large."):
        infer(user, user / "tiny")


@pytest.mark.parametrize(("count", "nodes"), [(10, 3), (2, 4), (0, 2), (7, 1)])
def test_every_question_has_one_node(count: int, nodes: int) -> None:
    parts = [range(*bounds(count, node, nodes)) for node in range(nodes)]
    assert [number for part in parts for number in part] == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
