"""Two engines on one queue: the same answers as of one, in order; a replica that ends is told."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.backends import start
from runner.backends._feed import Ask, ListFeed, chunks
from runner.backends._replicas import devices
from runner.core.errors import ConfigError, ModelError, StageError
from runner.core.specs import Backend, Model, Sampling, Template
from runner.core.types import Message
from tests.tiny import tiny_model

TRANSFORMERS = Backend(name="transformers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny"), "qwen3", "thinker")


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two replicas on a CPU, whatever this machine has."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def test_two_replicas_answer_as_one_does(folder: Path, no_gpu: None) -> None:
    """Sampled, with seeds; twice, because an engine is asked more than once."""
    one, two = (start(TRANSFORMERS, Model(id=str(folder)), "modelscope", gpus) for gpus in (1, 2))
    try:
        prompts = [two.prompt([Message("user", f"hello {n} " * (n % 5 + 1))], Template()) for n in range(40)]
        assert prompts[0] == one.prompt([Message("user", "hello 0 ")], Template()) and two.room(prompts[0]) == one.room(
            prompts[0]
        )
        sampling = Sampling(max_new_tokens=6, temperature=1.0, n=2)
        told: dict[int, Any] = {}
        made = two.generate(prompts, sampling, seeds=list(range(40)), finished=told.__setitem__)
        assert [told[place] for place in range(40)] == made
        assert [[a.text for a in samples] for samples in made] == [
            [a.text for a in samples] for samples in one.generate(prompts, sampling, seeds=list(range(40)))
        ]
        assert len(two.generate(prompts[:3], sampling)) == 3
    finally:
        two.close()
    assert not any(process.is_alive() for process in two.processes)  # type: ignore[attr-defined]


def test_replicas_begin_while_the_input_is_still_made_and_a_stop_is_heard_meanwhile(folder: Path, no_gpu: None) -> None:
    """Each prompt takes its time until an answer is there. In the end each place has the answer to its own prompt."""
    two: Any = start(TRANSFORMERS, Model(id=str(folder)), "modelscope", 2)
    sampling, total = Sampling(max_new_tokens=3, temperature=1.0), 700
    kinds = [two.prompt([Message("user", "hello " * n)], Template()) for n in (1, 5, 9)]
    told: dict[int, Any] = {}
    made: list[int] = []

    def asks(patience: float) -> Iterator[Ask]:
        for place in range(total):
            made.append(place)
            time.sleep(0.0 if told else patience)
            yield Ask(place, kinds[place % 3], place % 3)

    def take(place: int, completions: Any) -> None:
        assert place not in told
        told[place] = (len(made), completions)

    def stop() -> None:
        if len(made) > 200:
            raise KeyboardInterrupt

    try:
        expected = two.generate(kinds, sampling, seeds=[0, 1, 2])
        two.work(ListFeed(asks(0.05)), sampling, take)
        assert sorted(told) == list(range(total)) and min(at for at, _ in told.values()) < total
        assert all(held == expected[place % 3] for place, (_, held) in told.items())
        made.clear()
        with pytest.raises(KeyboardInterrupt):
            two.work(ListFeed(asks(0.0), stop), sampling, lambda *_: None)
        assert len(made) < total
    finally:
        begun = time.monotonic()
        two.close()
        assert time.monotonic() - begun < 20.0


def test_a_replica_that_is_killed_ends_the_stage(folder: Path, no_gpu: None) -> None:
    """With its exit code, and the other one with it."""
    two: Any = start(TRANSFORMERS, Model(id=str(folder)), "modelscope", 2)
    prompts = [two.prompt([Message("user", "hello")], Template())] * 200

    def kill(place: int, made: Any) -> None:
        os.kill(two.processes[1].pid, signal.SIGKILL)

    with pytest.raises(StageError, match=r"replica 1 ended \(exit code -9\)"):
        two.generate(prompts, Sampling(max_new_tokens=30), finished=kill)
    two.close()
    assert not any(process.is_alive() for process in two.processes)


def test_what_a_replica_cannot_load_is_told_as_it_is(tmp_path: Path, no_gpu: None) -> None:
    """The sentence of the process that knows."""
    tiny_model(tmp_path / "m")
    for file in (tmp_path / "m").glob("*.safetensors"):
        file.unlink()
    with pytest.raises(ModelError, match="holds no weights"):
        start(TRANSFORMERS, Model(id=str(tmp_path / "m")), "modelscope", 2)


@pytest.mark.parametrize(
    ("visible", "gpus", "each", "expected"),
    [
        ("0,1,2,3", 4, 2, [["0", "1"], ["2", "3"]]),
        ("4,6", 2, 1, [["4"], ["6"]]),
        ("", 2, 1, [[], []]),
        ("0,1", 4, 2, "4 GPUs, and there are 2"),
        ("0,1,2", 3, 2, "3 GPUs cannot be shared out by 2"),
    ],
)
def test_each_replica_has_gpus_of_its_own(
    monkeypatch: pytest.MonkeyPatch, visible: str, gpus: int, each: int, expected: Any
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    if isinstance(expected, list):
        assert devices(gpus, each) == expected
        return
    with pytest.raises(ConfigError, match=expected):
        devices(gpus, each)


def test_chunks_hold_everything_and_end_small() -> None:
    for total in (0, 1, 7, 8, 100, 5000):
        sizes = chunks(total, 4)
        assert sum(sizes) == total and sizes == sorted(sizes, reverse=True)
    assert chunks(5000, 4)[0] == 625 and chunks(5000, 4)[-1] <= 8


def test_a_list_is_taken_once() -> None:
    feed = ListFeed(Ask(place, "x", 0) for place in range(5))
    assert [len(feed.take(2, wait=True)) for _ in range(4)] == [2, 2, 1, 0]
