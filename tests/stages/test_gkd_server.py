"""The gkd stage with a teacher behind a server: a real tiny model's probabilities, over a real socket."""

import json
from pathlib import Path
from typing import Any

import pytest

from runner.core.errors import ConfigError, Interrupted, ModelError, RunnerError, StageError
from runner.core.job import Job
from runner.core.places import package_root
from tests.rollouts.teacher_server import NAME, teaching
from tests.stages.test_gkd import done, models, stage  # noqa: F401 - models is a fixture
from tests.tiny import tiny_model, tiny_tokenizer
from tests.training.small import Silent

pytest.importorskip("openai")


def served(folder: Path, models: Path, url: str, **keys: Any) -> Any:  # noqa: F811
    """The stage, its teacher at an address."""
    server = {"base_url": url, "tokenizer": str(models / "teacher"), "retries": 2, **keys.pop("server", {})}
    return stage(folder, models, teacher={"id": NAME}, teacher_server=server, **keys)


@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_the_student_comes_nearer_by_what_the_server_tells(
    tmp_path: Path, models: Path, beta: float, capsys: pytest.CaptureFixture[str]  # noqa: F811
) -> None:  # fmt: skip
    """Each sequence is asked once, as ids, side by side; a server that is busy at first is asked again."""
    with teaching(models / "teacher", failing=2) as server:
        keys = {"server": {"concurrency": 3}, "max_updates": 12, "beta": beta}
        lines, answers = done(served(tmp_path, models, server.url, **keys), tmp_path)
    assert lines[-1]["loss"] < 0.8 * lines[0]["loss"]
    assert all(0 < line["teacher_tail"] < 1 and 0 < line["student_tail"] < 1 for line in lines)
    assert capsys.readouterr().out.count("the 20 words that it tells hold 9% of the teacher's probability") == 1
    assert len(server.asked) == len(answers) + 2 and 1 < server.busy <= 3
    one = server.asked[0]
    assert one["model"] == NAME and one["prompt_logprobs"] == 20 and one["max_tokens"] == 1
    assert all(isinstance(token, int) for token in one["prompt"])


def test_a_server_that_tells_every_word_teaches_as_a_teacher_that_is_here(tmp_path: Path, models: Path) -> None:  # noqa: F811
    """The same losses, to rounding, in training and in evaluation."""
    (tmp_path / "aside.jsonl").write_text(json.dumps({"messages": [{"role": "user", "content": "Why?"}]}) + "\n")
    mix = {"datasets": [str(tmp_path / "rows.jsonl")], "validation": {"datasets": [str(tmp_path / "aside.jsonl")]}}
    keys = {"max_updates": 4, "mix": mix, "eval": {"every": 2}}
    here, _ = done(stage(tmp_path, models, **keys), tmp_path)
    (tmp_path / "out").rename(tmp_path / "here")
    size = len(tiny_tokenizer())
    with teaching(models / "teacher", most=size) as server:
        there, _ = done(served(tmp_path, models, server.url, server={"top_k": size}, **keys), tmp_path)
    for one, other in zip(here, there, strict=True):
        for name in {"loss", "eval_loss", "grad_norm"} & set(one):
            assert other[name] == pytest.approx(one[name], rel=2e-3), (one["update"], name)
    assert sum("eval_loss" in line for line in there) == 2
    assert all(line["teacher_tail"] < 1e-5 for line in there if "loss" in line)


@pytest.mark.parametrize(
    ("server", "keys", "told"),
    [
        ({"most": 5}, {}, r"teacher_server .*: refuses a request: .*greater than max allowed: 5. .*--max-logprobs 20"),
        ({"silent": True}, {}, r"teacher_server .*: tells no prompt_logprobs of \d+ tokens. Take a server of vLLM's"),
        ({"foreign": True}, {}, r"reads the token \d+ as 'foreign', here it is"),
        ({"key": "secret"}, {}, r"teacher_server.key_env: .* refuses the key. Put it into .* OPENAI_API_KEY"),
        ({"length": 9}, {}, r"a sequence of \d+ tokens leaves no room: the teacher takes 9"),
        ({"failing": 99}, {"server": {"retries": 0}}, r"teacher_server .*: refuses a request: busy"),
        ({}, {"server": {"base_url": "http://127.0.0.1:9/v1"}}, r"teacher_server.base_url: no server answers"),
        ({}, {"teacher": "other"}, r"teacher.id: the server has no model 'other'. It has: master"),
    ],
)
def test_what_a_server_does_wrong_is_one_sentence(
    tmp_path: Path, models: Path, server: dict[str, Any], keys: dict[str, Any], told: str  # noqa: F811
) -> None:  # fmt: skip
    with teaching(models / "teacher", **server) as state, pytest.raises(RunnerError, match=told) as error:
        name = keys.pop("teacher", NAME)
        one = served(tmp_path, models, state.url, **keys)
        object.__setattr__(one.teacher, "id", name)
        done(one, tmp_path)
    assert "\n" not in str(error.value)


def test_the_key_comes_from_the_environment(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    monkeypatch.setenv("TEACHER_KEY", "secret")
    with teaching(models / "teacher", key="secret") as server:
        keys = {"server": {"key_env": "TEACHER_KEY"}, "max_updates": 1}
        assert len(done(served(tmp_path, models, server.url, **keys), tmp_path)[0]) == 1


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"beta": 1.0}, r"stages.train.beta: 1 needs what the teacher gives to every word .* Take 0.9 or less"),
        ({"sampling": {"temperature": 0.7}}, r"sampling.temperature: 0.7, and a server tells .* at 1. Take 1.0"),
        ({"server": {"tokenizer": "./nowhere"}}, r"teacher_server.tokenizer.id: no folder './nowhere' here"),
    ],
)
def test_what_a_server_cannot_do_is_refused_when_planning(
    tmp_path: Path, models: Path, keys: dict[str, Any], told: str  # noqa: F811
) -> None:  # fmt: skip
    with pytest.raises(ConfigError, match=told):
        served(tmp_path, models, "http://host:8000/v1", **keys).check([tmp_path], "stages.train")


def test_a_server_with_another_tokenizer_is_refused(tmp_path: Path, models: Path) -> None:  # noqa: F811
    other = tiny_model(tmp_path / "other")
    file = other / "tokenizer.json"
    file.write_text(file.read_text().replace("<tool_call>", "<tool_cal>"))
    with teaching(models / "teacher") as server, pytest.raises(ModelError, match=r"teacher: master has another vocab"):
        done(served(tmp_path, models, server.url, server={"tokenizer": str(other)}), tmp_path)


def test_a_stop_while_the_teacher_is_asked_loses_nothing(tmp_path: Path, models: Path) -> None:  # noqa: F811
    """The update is made anew, from the rollout that was kept; the result is that of a training never stopped."""
    with teaching(models / "teacher") as server:
        whole, _ = done(served(tmp_path, models, server.url, max_updates=4), tmp_path)
        (tmp_path / "out").rename(tmp_path / "whole")
        (tmp_path / "out").mkdir()
        one, before = served(tmp_path, models, server.url, max_updates=4), len(server.asked)
        kept = {"roots": (tmp_path, package_root()), "progress": Silent(), "fingerprint": "same"}
        stopped = Job("train", tmp_path / "out", tmp_path, stopping=lambda: len(server.asked) > before + 20, **kept)
        with pytest.raises(Interrupted, match="stopped after update 2 of 4"):
            one.run(stopped)
        one.run(Job("train", tmp_path / "out", tmp_path, **kept))
    lines = [json.loads(line) for line in (tmp_path / "out/metrics.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in lines] == [line["loss"] for line in whole]


def test_no_server_is_said_before_anything_is_loaded(tmp_path: Path, models: Path) -> None:  # noqa: F811
    with pytest.raises(StageError, match="no server answers"):
        done(served(tmp_path, models, "http://127.0.0.1:9/v1", model={"id": "not/there"}), tmp_path)
