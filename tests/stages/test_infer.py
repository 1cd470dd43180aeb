"""Batch inference with a tiny model: the rows by the contract, resume after kills, filters, errors."""

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from runner.core import schema
from runner.core.errors import ConfigError, Interrupted, StageError
from runner.core.job import Job, Progress
from runner.stages.infer import Infer
from tests.tiny import tiny_model

ROOT = Path(__file__).parents[2]
KEYS = (
    "id",
    "messages",
    "response",
    "reasoning",
    "reference",
    "finish_reason",
    "prompt_tokens",
    "completion_tokens",
    "sample",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with a template that knows thinking."""
    return tiny_model(tmp_path_factory.mktemp("tiny"), "qwen3", "thinker")


def infer(model: Path, **keys: Any) -> Infer:
    """The stage as a recipe would make it."""
    values: dict[str, Any] = {
        "model": {"id": str(model)}, "variables": {"NAME": "Robin"}, "template": {},
        "sampling": {"max_new_tokens": 8, "temperature": 0.0}, "backend": {"name": "transformers"}, "parallelism": {},
    }  # fmt: skip
    return schema.build(Infer, {**values, **keys}, "stages.ask")


def job(folder: Path, **keys: Any) -> Job:
    """A work order in a folder of its own."""
    (folder / "ask").mkdir(exist_ok=True)
    return dataclasses.replace(Job("ask", folder / "ask", folder, fingerprint="f"), **keys)


def lines(file: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file; every line must be whole."""
    text = file.read_text(encoding="utf-8")
    assert text.endswith("\n") or not text
    return [json.loads(line) for line in text.split("\n")[:-1]]


class After(Progress):
    """Asks for a stop after so many questions; call it."""

    def __init__(self, questions: int) -> None:
        super().__init__()
        self.left = questions

    def update(self, done: int, total: int, what: str, **shown: object) -> None:
        self.left -= 1

    def job(self, folder: Path, **keys: Any) -> Job:
        """A work order that is stopped."""
        return job(folder, progress=self, stopping=lambda: self.left <= 0, **keys)


def dataset(file: Path, count: int = 30) -> Path:
    """Rows of questions of different lengths, some with an answer, all with a column of their own."""
    chance = random.Random(1)
    made = []
    for row in range(count):
        said = [{"role": "user", "content": f"{row} " + "hello " * chance.randrange(1, 12)}]
        answer = [{"role": "assistant", "content": f"answer {row}"}] if row % 3 == 0 else []
        made.append({"messages": said + answer, "level": row % 5})
    file.write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")
    return file


def test_rows_keep_the_contract(folder: Path, tmp_path: Path) -> None:
    """Prompt plus the new turn, the old answer as reference, columns passed on, in the order of the input."""
    rows = tmp_path / "rows.jsonl"
    said = [{"role": "user", "content": "I am {{NAME}}"}, {"role": "assistant", "content": "old"}]
    held = [{"messages": said, "level": 3, "response": "own"}, {"query": "second", "system": "Be brief.", "id": "x"}]
    rows.write_text("".join(json.dumps(row) + "\n" for row in held), encoding="utf-8")
    made = infer(folder, prompts=[str(rows)], questions=["third"], template={"thinking": "off"}).run(job(tmp_path))
    assert made.kind == "completions" and Path(made.path) == tmp_path / "ask" / "completions.jsonl"
    first, second, third = lines(Path(made.path))
    assert tuple(first) == (*KEYS, "level") and first["level"] == 3
    assert first["messages"][:-1] == [{"role": "user", "content": "I am Robin"}]
    assert first["messages"][-1] == {"role": "assistant", "content": first["response"]}
    assert first["reference"] == "old" and second["reference"] is None
    assert first["response"].startswith("<think>\n\n</think>\n\n") and first["reasoning"] == ""
    assert [message["role"] for message in second["messages"]] == ["system", "user", "assistant"]
    assert third["messages"][0]["content"] == "third"
    assert len({row["id"] for row in (first, second, third)}) == 3
    assert made.metrics["rows"] == 3 and made.metrics["truncated"] + made.metrics["errors"] <= 3
    assert made.metrics["completion_tokens"] == sum(row["completion_tokens"] for row in (first, second, third))


def test_samples_stand_beside_each_other(folder: Path, tmp_path: Path) -> None:
    """n rows a question, numbered; the run's seed decides them."""
    keys = {"questions": ["a", "b"], "sampling": {"max_new_tokens": 6, "temperature": 1.0, "n": 3}}
    made = infer(folder, **keys).run(job(tmp_path))
    rows = lines(Path(made.path))
    assert [row["sample"] for row in rows] == [0, 1, 2] * 2 and len({row["response"] for row in rows}) > 2
    (tmp_path / "again").mkdir()
    again = infer(folder, **keys).run(job(tmp_path / "again"))
    assert lines(Path(again.path)) == rows
    (tmp_path / "other").mkdir()
    other = infer(folder, **keys).run(job(tmp_path / "other", seed=7))
    assert lines(Path(other.path)) != rows


def test_a_stopped_run_goes_on(folder: Path, tmp_path: Path) -> None:
    """Stopped after each few rows: the same file as in one go, and nothing is asked twice."""
    rows = dataset(tmp_path / "rows.jsonl")
    (tmp_path / "whole").mkdir()
    whole = infer(folder, prompts=[str(rows)]).run(job(tmp_path / "whole"))
    stage = infer(
        folder, prompts=[str(rows)], write_batch_size=4, backend={"name": "transformers", "batch_tokens": 300}
    )
    stops = 0
    for _ in range(20):
        try:
            made = stage.run(After(7).job(tmp_path))
            break
        except Interrupted:
            stops += 1
    assert 2 <= stops <= 5  # 30 rows, at least 7 at a time: the journal keeps what no stretch was complete for
    assert Path(made.path).read_bytes() == Path(whole.path).read_bytes()
    assert not (tmp_path / "ask" / "journal.jsonl").exists()


def test_a_stop_waits_for_no_answer(folder: Path, tmp_path: Path) -> None:
    """It comes after the step that is being made, though answers would take thousands."""
    looks = 0

    def stopping() -> bool:
        nonlocal looks
        looks += 1
        return looks > 10

    endless = {"max_new_tokens": 4000, "temperature": 1.0}
    with pytest.raises(Interrupted, match="ask: stopped at 0 of 2 questions"):
        infer(folder, questions=["a", "b"], sampling=endless).run(job(tmp_path, stopping=stopping))
    assert looks == 11


def test_what_a_crash_left_half_written_is_cut_off(folder: Path, tmp_path: Path) -> None:
    """Half a line in the result and in the journal."""
    rows = dataset(tmp_path / "rows.jsonl", 12)
    few = {"name": "transformers", "batch_tokens": 200}
    stage = infer(folder, prompts=[str(rows)], write_batch_size=3, backend=few)
    with pytest.raises(Interrupted):
        stage.run(After(4).job(tmp_path))
    assert (tmp_path / "ask" / "journal.jsonl").stat().st_size
    for name in ("completions.jsonl", "journal.jsonl"):
        with open(tmp_path / "ask" / name, "a", encoding="utf-8") as stream:
            stream.write('{"id": "half a li')
    made = stage.run(job(tmp_path))
    (tmp_path / "whole").mkdir()
    whole = infer(folder, prompts=[str(rows)]).run(job(tmp_path / "whole"))
    assert lines(Path(made.path)) == lines(Path(whole.path))


def test_other_work_is_not_gone_on_with(folder: Path, tmp_path: Path) -> None:
    """A result of another fingerprint is made anew; a foreign file at result_path is refused."""
    stage = infer(folder, questions=["a", "b", "c"], write_batch_size=2)
    with pytest.raises(Interrupted):
        stage.run(job(tmp_path, stopping=lambda: True))
    made = infer(folder, questions=["d", "e", "f"]).run(job(tmp_path, fingerprint="other"))
    assert [row["messages"][0]["content"] for row in lines(Path(made.path))] == ["d", "e", "f"]
    foreign = tmp_path / "mine.jsonl"
    foreign.write_text('{"id": 1}\n')
    (tmp_path / "new").mkdir()
    with pytest.raises(StageError, match=r"mine.jsonl: is there already, made by something else"):
        infer(folder, questions=["a"], result_path=str(foreign)).run(job(tmp_path / "new"))
    assert foreign.read_text() == '{"id": 1}\n'


def test_tokens_and_their_probabilities_where_they_are_asked_for(folder: Path, tmp_path: Path) -> None:
    """One a token of the answer, through a stop too; otherwise no row holds any."""
    keys: dict[str, Any] = {
        "questions": [f"q {n}" for n in range(9)],
        "backend": {"name": "transformers", "batch_tokens": 150},
    }
    keys["sampling"] = {"max_new_tokens": 6, "temperature": 1.0, "logprobs": True, "n": 2}
    with pytest.raises(Interrupted):
        infer(folder, **keys).run(After(3).job(tmp_path))
    made = lines(Path(infer(folder, **keys).run(job(tmp_path)).path))
    (tmp_path / "whole").mkdir()
    assert made == lines(Path(infer(folder, **keys).run(job(tmp_path / "whole")).path))
    assert all(len(row["token_ids"]) == len(row["logprobs"]) == row["completion_tokens"] for row in made)
    assert all(value < 0 for row in made for value in row["logprobs"]) and len(made) == 18
    (tmp_path / "none").mkdir()
    plain = lines(Path(infer(folder, questions=["a"]).run(job(tmp_path / "none")).path))
    assert not {"token_ids", "logprobs"} & plain[0].keys()


def test_result_path(folder: Path, tmp_path: Path) -> None:
    """The rows go there, and the artifact says so."""
    made = infer(folder, questions=["a"], result_path=str(tmp_path / "out" / "rows.jsonl")).run(job(tmp_path))
    assert Path(made.path) == tmp_path / "out" / "rows.jsonl" and len(lines(Path(made.path))) == 1


@pytest.mark.parametrize("name", ["journal.jsonl", "metrics.jsonl"])
def test_answers_go_into_no_file_by_which_the_run_works(folder: Path, tmp_path: Path, name: str) -> None:
    """A journal that is the result removed itself."""
    with pytest.raises(StageError, match=f"{name}: the run keeps something else there"):
        infer(folder, questions=["a"], result_path=str(tmp_path / "ask" / name)).run(job(tmp_path))


def test_a_finished_result_that_is_wanted_elsewhere_goes_there(folder: Path, tmp_path: Path) -> None:
    """It was reused, with exit code 0, and there was no file where the user asked for it."""
    old, new = tmp_path / "old.jsonl", tmp_path / "far" / "new.jsonl"
    keys: dict[str, Any] = {"questions": ["a", "b", "c"]}
    made = infer(folder, **keys, result_path=str(old)).run(job(tmp_path))
    stage = infer(folder, **keys, result_path=str(new))
    assert infer(folder, **keys, result_path=str(old)).reusable(made, "ask") == ("reuse", "complete")
    assert stage.reusable(made, "ask") == ("run", f"result_path: {old} -> {new}")
    again = stage.run(job(tmp_path))
    assert Path(again.path) == new and new.read_bytes() == old.read_bytes() and again.metrics["tokens_per_s"] == 0


def test_two_runs_do_not_write_to_one_file(folder: Path, tmp_path: Path) -> None:
    """The second one emptied it, and a later run of the second threw the answers of the first away."""
    result = tmp_path / "both.jsonl"
    for name in ("a", "b"):
        (tmp_path / name / "ask").mkdir(parents=True)
    told: list[str] = []

    def other(progress: Any, done: int, *_: Any, **shown: Any) -> None:
        if not told:
            with pytest.raises(StageError) as error:
                infer(folder, questions=["x", "y"], result_path=str(result)).run(job(tmp_path / "b"))
            told.append(str(error.value))

    progress = type("Both", (Progress,), {"update": other})()
    infer(folder, questions=["a", "b", "c"], result_path=str(result)).run(job(tmp_path / "a", progress=progress))
    assert "both.jsonl: another run writes its answers there." in told[0] and len(lines(result)) == 3
    with pytest.raises(StageError, match=r"both.jsonl: is there already"):
        infer(folder, questions=["x", "y"], result_path=str(result)).run(job(tmp_path / "b"))
    assert len(lines(result)) == 3


def test_failed_questions_are_rows_up_to_a_limit(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With their error and without an answer; one more than max_errors ends the stage."""
    questions = ["a", "hello " * 5000, "b"]
    made = infer(folder, questions=questions, max_errors=1).run(job(tmp_path))
    _, failed, last = lines(Path(made.path))
    assert failed["finish_reason"] == "error" and "leaves no room" in failed["error"]
    assert [message["role"] for message in failed["messages"]] == ["user"] and last["finish_reason"] != "error"
    assert made.metrics["errors"] == 1
    (tmp_path / "strict").mkdir()
    with pytest.raises(StageError, match="1 questions failed, more than max_errors"):
        infer(folder, questions=questions, max_errors=0).run(job(tmp_path / "strict"))
    assert "1 of 3 answers failed. The first: questions:1: the prompt has" in capsys.readouterr().out
    made = infer(folder, questions=questions, max_errors=1).run(job(tmp_path / "strict"))  # asked again
    assert made.metrics["errors"] == 1 and capsys.readouterr().out.count("The first: questions:1") == 1


def test_a_question_of_many_samples_fails_once(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The limit is of questions, whatever the number of their answers."""
    many = {"sampling": {"n": 3, "max_new_tokens": 2, "temperature": 1.0}, "max_errors": 1}
    made = infer(folder, questions=["a", "hello " * 5000], **many).run(job(tmp_path))
    assert made.metrics["errors"] == 3 and "3 of 6 answers failed" in capsys.readouterr().out


def test_a_stage_without_any_answer_fails_and_asks_all_again(folder: Path, tmp_path: Path) -> None:
    """Nothing stays that a later run would take for its answers."""
    for _ in range(2):
        with pytest.raises(StageError, match=r"ask: no question was answered, all 2 failed. The first: questions:0: "):
            infer(folder, questions=["hello " * 5000, "thanks " * 5000]).run(job(tmp_path))
    assert not lines(tmp_path / "ask" / "completions.jsonl")


def test_a_reward_that_filters_needs_its_columns_when_planning(folder: Path, tmp_path: Path) -> None:
    """Not after the last answer. What the rows are given with the answers counts as there."""
    file = dataset(tmp_path / "rows.jsonl", 2)
    (tmp_path / "plugins" / "rewards").mkdir(parents=True)
    for name in ("expected", "reference"):
        text = f"def wants_{name}(completions, *, {name}): return [1.0] * len(completions)\n"
        (tmp_path / "plugins" / "rewards" / f"wants_{name}.py").write_text(text)
    keys = {"prompts": [str(file)], "min_reward": 1.0}
    infer(folder, **keys, reward={"wants_reference": {}}).check([tmp_path], "stages.ask")
    with pytest.raises(ConfigError, match=r"stages.ask.reward.wants_expected: needs the column 'expected'"):
        infer(folder, **keys, reward={"wants_expected": {}}).check([tmp_path], "stages.ask")


def test_truncated_and_unrewarded_answers_can_be_left_out(folder: Path, tmp_path: Path) -> None:
    """Dropped rows are counted; kept ones carry their scores; a stopped run does not lose or repeat them."""
    plugin = tmp_path / "plugins" / "rewards" / "even.py"
    plugin.parent.mkdir(parents=True)
    plugin.write_text("def even(completions, *, level):\n    return [float(n % 2 == 0) for n in level]\n")
    rows = dataset(tmp_path / "rows.jsonl", 10)
    keys: dict[str, Any] = {"prompts": [str(rows)], "reward": {"even": {}}, "min_reward": 0.5, "write_batch_size": 2}
    keys["backend"] = {"name": "transformers", "batch_tokens": 150}
    with pytest.raises(Interrupted):
        infer(folder, **keys).run(After(3).job(tmp_path, roots=(tmp_path,)))
    made = infer(folder, **keys).run(job(tmp_path, roots=(tmp_path,)))
    kept = lines(Path(made.path))
    assert [row["level"] for row in kept] == [0, 2, 4, 0, 2, 4] and kept[0]["rewards"] == {"even": 1.0}
    assert made.metrics["dropped"] == 4
    (tmp_path / "short").mkdir()
    with pytest.raises(StageError, match="ask: all 3 answers were left out"):  # it was done, with a dataset of nothing
        infer(folder, questions=["a", "b", "c"], truncated="drop", sampling={"max_new_tokens": 1}).run(
            job(tmp_path / "short")
        )


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({}, r"stages.ask.prompts: no question to ask"),
        ({"prompts": ["nowhere.jsonl"]}, r"stages.ask.prompts.0: .*nowhere"),
        ({"questions": ["a"], "min_reward": 0.5}, r"stages.ask.min_reward: needs a reward"),
        ({"questions": ["a"], "result_path": "."}, r"stages.ask.result_path: \. is a folder"),
        ({"questions": ["a"], "result_path": "/dev/null"}, r"result_path: /dev/null is a device or a pipe"),
        ({"questions": ["a"], "result_path": "~nobody-here/x"}, r"path: ~nobody-here/x is no place for a file"),
        ({"questions": ["a"], "result_path": "x.csv"}, r"result_path: answers are .* Name it x.jsonl."),
        ({"questions": ["a"], "result_path": "job.yaml"}, r"result_path: answers are .* Name it job.jsonl."),
        (
            {"questions": ["a"], "min_reward": 0.5, "reward": {"containz": {}}},
            r"stages.ask.reward.containz: .*mean contains",
        ),
    ],
)
def test_mistakes_are_told_when_planning(folder: Path, keys: dict[str, Any], sentence: str) -> None:
    """With the key as it was written."""
    with pytest.raises(ConfigError, match=sentence):
        infer(folder, **keys).check([ROOT], "stages.ask")


@pytest.mark.parametrize(("count", "times"), [(40, 3), pytest.param(500, 10, marks=pytest.mark.slow)])
def test_killed_at_random_moments(folder: Path, tmp_path: Path, count: int, times: int) -> None:
    """A real process, killed without warning again and again: nothing lost, nothing twice."""
    rows = dataset(tmp_path / "rows.jsonl", count)
    run = (
        "import sys; sys.path.insert(0, sys.argv[1]); from tests.stages.test_infer import *\n"
        "infer(Path(sys.argv[2]), prompts=[sys.argv[3]], write_batch_size=4,\n"
        "      backend={'name': 'transformers', 'batch_tokens': 120},\n"
        "      sampling={'max_new_tokens': 40, 'temperature': 1.0}).run(job(Path(sys.argv[4])))"
    )
    command = [sys.executable, "-c", run, str(ROOT), str(folder), str(rows), str(tmp_path)]
    chance, kills = random.Random(3), 0
    for _ in range(30):
        child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        begun = time.monotonic()
        journal = tmp_path / "ask" / "journal.jsonl"
        before = journal.stat().st_mtime_ns if journal.exists() else 0
        while child.poll() is None and time.monotonic() - begun < 60:
            if journal.exists() and journal.stat().st_mtime_ns != before and kills < times:
                time.sleep(chance.random() * 0.2)
                os.kill(child.pid, signal.SIGKILL)
                kills += child.wait() == -signal.SIGKILL
                break
            time.sleep(0.02)
        if child.wait() == 0:
            break
    assert kills == times and child.returncode == 0
    (tmp_path / "whole").mkdir()
    made = infer(folder, prompts=[str(rows)], sampling={"max_new_tokens": 40, "temperature": 1.0}).run(
        job(tmp_path / "whole")
    )
    found, expected = lines(tmp_path / "ask" / "completions.jsonl"), lines(Path(made.path))
    assert [row["id"] for row in found] == [row["id"] for row in expected] and len(found) == count
    assert found == expected


@pytest.mark.parametrize(("kind", "told"), [("chatml", True), ("thinker", False)])
def test_a_mode_that_the_chat_template_lacks_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, told: bool
) -> None:
    model = tiny_model(tmp_path / "tiny", "llama", kind)
    infer(model, questions=["a"], template={"thinking": "on"}).run(job(tmp_path))
    sentence = "template.thinking: on changes nothing, the chat template of this model has no modes"
    assert (sentence in capsys.readouterr().out) == told
    (tmp_path / "auto").mkdir()
    infer(model, questions=["a"]).run(job(tmp_path / "auto"))
    assert "template.thinking" not in capsys.readouterr().out
