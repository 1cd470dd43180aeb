"""The way of the weights to an engine beside the training, and what it is told when. On a GPU: gpu/test_grpo.py."""

import os
import shutil
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runner.backends._vllm_arguments import told
from runner.core.errors import StageError
from runner.rollouts._heard import Heard
from tests.rollouts.engine import Client, Engine, answering, install
from tests.rollouts.run_sampled import aside, evaluations, plugin, rows, stage
from tests.stages.test_grpo import LEARN, done
from tests.tiny import tiny_model

KEYS: dict[str, Any] = {**LEARN, "backend": {"name": "vllm"}, "max_updates": 3, "prompts_per_update": 2}
REWARD = "def letters(completions, *, place=''): return [float(sum(map(ord, c)) % 7) for c in completions]\n"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny chat model."""
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder, and an engine where vLLM would be."""
    install(monkeypatch)
    for name in (
        "VLLM_ENABLE_V1_MULTIPROCESSING",
        "VLLM_LOGGING_LEVEL",
        "VLLM_NO_USAGE_STATS",
        "VLLM_CONFIGURE_LOGGING",
    ):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    rows(tmp_path)
    plugin(tmp_path, REWARD)
    return tmp_path


def test_log_probabilities_are_taken_from_a_vllm_that_is_made_otherwise(
    base: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the lists that every one has: the same numbers."""
    _, heard, _ = done(stage(place, base, **KEYS), place)
    asked = Engine.made[0].processors.values()
    assert asked and all(not processor.own.logprobs for processor in asked)
    monkeypatch.setattr(Engine, "hears", False)
    shutil.rmtree(place / "out")
    _, listed, _ = done(stage(place, base, **KEYS), place)
    assert all(processor.own.logprobs for processor in Engine.made[1].processors.values())
    same = ("loss", "sampling_mismatch", "reward")
    assert [[line[name] for name in same] for line in listed] == [[line[name] for name in same] for line in heard]


@pytest.mark.parametrize("iterations", [1, 2])
def test_what_the_correction_leaves_out_is_a_figure_and_an_alert(base: Path, place: Path, iterations: int) -> None:
    """Whether the factors are made with the loss or before it."""
    more = {"correction": "sequence_mask", "correction_max": 1e-9, "num_iterations": iterations, "num_generations": 4}
    _, lines, _ = done(stage(place, base, **{**KEYS, **more, "prompts_per_update": 6, "max_updates": 8}), place)
    assert [line["correction_left_out"] for line in lines] == pytest.approx([1.0] * 8)
    assert "the correction leaves out 100% of what could be learned" in (place / "out/alerts.jsonl").read_text()


def test_log_probabilities_of_other_tokens_are_refused() -> None:
    heard = Heard()
    step = types.SimpleNamespace(logprob_token_ids=np.array([[7]]), logprobs=np.array([[-0.5]]))
    heard(types.SimpleNamespace(new_logprobs=step))
    heard(types.SimpleNamespace(new_logprobs=None))  # a step without a token
    assert told(types.SimpleNamespace(logprobs=heard, token_ids=[7])) == [-0.5]
    with pytest.raises(StageError, match="not those of the tokens that it drew"):
        told(types.SimpleNamespace(logprobs=heard, token_ids=[8]))


@pytest.mark.parametrize("kind", ["full", "lora"])
@pytest.mark.parametrize("sleep", [0, 1, 2])
def test_it_samples_with_the_weights_of_the_moment(base: Path, place: Path, kind: str, sleep: int) -> None:
    """The engine begins with zeros; its log-probabilities are the model's own, after each update."""
    keys = {**KEYS, "train_type": {"kind": kind}, "sleep_level": sleep, "optim": {"lr": 1e-2}, "beta": 1e-6}
    keys |= {"correction": "token_truncate", "offload_model": True, "offload_optimizer": True}
    _, lines, answers = done(stage(place, base, **keys), place)
    assert all(line["sampling_mismatch"] < 1e-4 for line in lines)
    assert lines[-1]["rollout_kl"] > 1e-3  # and it has moved meanwhile
    (engine,) = Engine.made
    kept = ["wake weights", "load", "wake kv_cache", "reset", f"sleep {sleep}"] if sleep else ["load", "reset"]
    first = ["load", "reset", f"sleep {sleep}"] if sleep else kept
    assert engine.calls == [*first, *kept, *kept, "shutdown"]
    assert engine.keys["max_model_len"] == max(one["prompt_tokens"] for one in answers) + 6
    assert engine.keys["logprobs_mode"] == "raw_logprobs"


@pytest.mark.parametrize("sleep", [0, 1])
def test_an_evaluation_asks_the_same_engine_with_the_weights_of_its_moment(base: Path, place: Path, sleep: int) -> None:
    """Greedy, whatever the training samples by; the engine sleeps afterwards, and the next rollout wakes it again."""
    more = {"offload_model": True, "offload_optimizer": True, "sleep_level": sleep, **aside(place, 2)}
    _, lines, _ = done(stage(place, base, **{**KEYS, "max_updates": 4}, **more), place)
    (engine,) = Engine.made
    assert [line["update"] for line in lines if "eval_reward" in line] == [2, 4]
    assert engine.calls.count("load") == 4 + 2 and engine.calls.count("sleep 1") == 6 * sleep
    assert engine.temperatures == [1.0] * 32 + [0.0] * 3 + [1.0] * 32 + [0.0] * 3
    answers = evaluations(place / "out")
    assert [one["update"] for one in answers] == [2] * 3 + [4] * 3
    assert engine.keys["max_model_len"] == max(one["prompt_tokens"] for one in answers) + 6  # theirs are longer


def test_an_answer_that_takes_too_long_ends_it_with_a_name(base: Path, place: Path) -> None:
    with pytest.raises(StageError, match=r"sampling took longer than sampler_timeout=1e-09 s: 1 of 16 answers"):
        done(stage(place, base, **KEYS, sampler_timeout=1e-9), place)
    (engine,) = Engine.made
    assert not engine.waiting and engine.calls[-2:] == ["sleep 1", "shutdown"]


@pytest.mark.parametrize("more", [{"top_p": 0.9}, {"repetition_penalty": 1.2}, {"frequency_penalty": 0.5}])
def test_log_probabilities_after_cuts_at_a_temperature_are_not_compared(
    base: Path, place: Path, capsys: pytest.CaptureFixture[str], more: dict[str, float]
) -> None:
    keys = {**KEYS, "sampling": {"max_new_tokens": 6, "temperature": 0.7, **more}, "max_updates": 1}
    _, lines, _ = done(stage(place, base, **keys), place)
    assert "no correction" in capsys.readouterr().out and "sampling_mismatch" not in lines[0]
    assert Engine.made[0].keys["logprobs_mode"] == "processed_logprobs"


@pytest.fixture
def server(base: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A server of the model, and the keys for it."""
    monkeypatch.setattr(Client, "model", str(base))
    monkeypatch.setenv("VLLM_HOST_IP", "127.0.0.1")
    with answering(200) as url:
        yield {**KEYS, "backend": {"name": "auto"}, "server": f"{url}/", "optim": {"lr": 1e-2}, "beta": 1e-6}


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_a_server_gets_the_weights_before_each_rollout(
    base: Path, place: Path, server: dict[str, Any], kind: str
) -> None:
    _, lines, _ = done(stage(place, base, **{**server, "train_type": {"kind": kind}}), place)
    assert all(line["sampling_mismatch"] < 1e-4 for line in lines) and lines[-1]["rollout_kl"] > 1e-3
    assert Engine.made[0].calls == [*["load", "reset"] * 3, "left"]


def test_a_server_tells_log_probabilities_after_penalties(
    base: Path, place: Path, server: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    keys = {**server, "sampling": {"max_new_tokens": 6, "presence_penalty": 0.5}, "max_updates": 1}
    _, lines, _ = done(stage(place, base, **keys), place)
    assert "no correction" in capsys.readouterr().out and "sampling_mismatch" not in lines[0]


def test_transformers_tells_log_probabilities_after_penalties(
    base: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two updates a rollout, so that the model's own are known; without penalties they are the same."""
    keys = {**LEARN, "backend": {"name": "transformers"}, "max_updates": 2, "updates_per_rollout": 2}
    for more, same in (({}, True), ({"repetition_penalty": 1.3}, False)):
        sampling = {"max_new_tokens": 6, **more}
        _, lines, _ = done(stage(place, base, **keys, sampling=sampling), place, f"same-{same}")
        assert lines[0].get("sampling_mismatch", 1.0) < 1e-4 if same else "sampling_mismatch" not in lines[0]
        assert ("no correction" in capsys.readouterr().out) is not same


def test_a_server_answers_an_evaluation_too(base: Path, place: Path, server: dict[str, Any]) -> None:
    _, lines, _ = done(stage(place, base, **server, **aside(place, 2)), place)
    assert [line["update"] for line in lines if "eval_reward" in line] == [2, 3]
    (engine,) = Engine.made
    assert engine.calls == [*["load", "reset"] * 5, "left"]
    assert engine.temperatures[32:35] == engine.temperatures[-3:] == [0.0] * 3 and 0.0 not in engine.temperatures[:32]


def test_a_server_that_does_not_answer_ends_it_with_a_name(
    base: Path, place: Path, server: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Client, "delay", 5.0)
    with pytest.raises(StageError, match=r"server http://127.0.0.1:\d+: sampling took longer than sampler_timeout=2 s"):
        done(stage(place, base, **server, sampler_timeout=2.0), place)
