"""Evaluation with a tiny model: scores by row, by source and over all; what is refused before anything is loaded."""

import json
from pathlib import Path
from typing import Any

import pytest

from runner.core import artifact, schema
from runner.core.artifact import Artifact
from runner.core.errors import ConfigError, DataError
from runner.core.job import Job
from runner.stages._scores import figures, told
from runner.stages.evaluate import Evaluate
from tests.tiny import tiny_model

ROOT = Path(__file__).parents[2]
LENGTH = '''
"""A score that the test knows beforehand."""
def known(completions, *, worth, times: float = 1.0):
    return [None if w is None else times * w for w in worth]
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model."""
    return tiny_model(tmp_path_factory.mktemp("tiny"), "qwen3", "thinker")


def evaluate(model: Path, **keys: Any) -> Evaluate:
    """The stage as a recipe would make it."""
    values: dict[str, Any] = {
        "model": {"id": str(model)}, "variables": {"NAME": "Robin"}, "template": {},
        "sampling": {"max_new_tokens": 4, "temperature": 0.0}, "backend": {"name": "transformers"}, "parallelism": {},
    }  # fmt: skip
    return schema.build(Evaluate, {**values, **keys}, "stages.score")


def job(folder: Path) -> Job:
    """A work order in a folder of its own, with the reward `known` among the plugins."""
    (folder / "score").mkdir()
    plugin = folder / "plugins" / "rewards" / "known.py"
    plugin.parent.mkdir(parents=True)
    plugin.write_text(LENGTH)
    return Job("score", folder / "score", folder, fingerprint="f", roots=(folder, ROOT))


def questions(file: Path, worths: list[Any]) -> Path:
    """Rows with the columns that the rewards read."""
    rows = [{"query": f"{file.stem} {n}", "worth": worth, "expected": "{{NAME}}"} for n, worth in enumerate(worths)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def test_scores_by_row_by_source_and_over_all(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Means, counts and intervals; a row without the column has no score and is counted."""
    prompts = [str(questions(tmp_path / "a.jsonl", [1, 1, 0])), str(questions(tmp_path / "b.jsonl", [0, None]))]
    made = evaluate(folder, prompts=prompts, reward={"known": {}, "contains": {"weight": 0.5}}).run(job(tmp_path))
    assert made.kind == "scores"
    assert made.metrics["known"] == 0.5 and made.metrics["contains"] == 0.0 and made.metrics["rows"] == 5
    assert made.metrics["rewards"]["known"]["right"] == "2/4" and made.metrics["rewards"]["known"]["unscored"] == 1
    by_source = {Path(name).name: details for name, details in made.metrics["sources"].items()}
    assert by_source["a.jsonl"]["known"]["right"] == "2/3" and by_source["b.jsonl"]["known"]["right"] == "0/1"
    rows = [json.loads(line) for line in Path(made.path).read_text().splitlines()]
    assert [row["scores"] for row in rows[:2]] == [{"known": 1.0, "contains": 0.0}] * 2
    assert [row["total"] for row in rows] == [1.0, 1.0, 0.0, 0.0, 0.0] and rows[4]["scores"]["known"] is None
    assert rows[0]["question"] == "a 0" and (tmp_path / "score" / "completions.jsonl").is_file()
    printed = capsys.readouterr().out
    assert "known: 2/4 = 0.500 (95%:" in printed and "known on a.jsonl: 2/3" in printed


def test_pass_at_k(folder: Path, tmp_path: Path) -> None:
    """Over n samples a question."""
    prompts = [str(questions(tmp_path / "a.jsonl", [1, 0]))]
    sampling = {"max_new_tokens": 4, "temperature": 1.0, "n": 3}
    stage = evaluate(folder, prompts=prompts, reward={"known": {}}, sampling=sampling, pass_at=[1, 3])
    made = stage.run(job(tmp_path))
    assert made.metrics["known_pass_at_1"] == pytest.approx(0.5) and made.metrics["known_pass_at_3"] == 0.5
    assert made.metrics["rows"] == 6 and made.metrics["rewards"]["known"]["questions"] == 2


def test_an_answer_without_a_score_is_not_a_wrong_one() -> None:
    """pass@1 told another number than the mean, which leaves it out."""
    rows = [{"id": name, "source": "a", "finish_reason": "stop"} for name in "aabb"]
    lines = [{**row, "scores": {"known": score}} for row, score in zip(rows, (1.0, None, 0.0, 0.0), strict=True)]
    made = figures(lines, ["known"], [1, 2])
    assert made["known_pass_at_1"] == 0.5 and made["known_pass_at_2"] == 0.0


def test_questions_that_pass_at_k_leaves_out_are_told() -> None:
    """It was told over fewer questions than were asked, or not at all, without a word."""
    rows = [{"id": name, "source": "a", "finish_reason": "stop"} for name in "aabb"]
    lines = [{**row, "scores": {"known": score}} for row, score in zip(rows, (1.0, None, 0.0, 0.0), strict=True)]
    made = figures(lines, ["known"], [1, 2, 3])
    assert told(made, ["known"])[1:] == [
        "known: pass@2 leaves 1 questions out: too few of their answers have a score",
        "known: pass@3 leaves 2 questions out: too few of their answers have a score",
    ]
    assert "known_pass_at_3" not in made and len(told(figures(lines, ["known"], [1]), ["known"])) == 1


def test_answers_that_are_there_are_scored_as_they_are(tmp_path: Path) -> None:
    """No model is loaded: the stage's folder or its file."""
    made = tmp_path / "answers"
    made.mkdir()
    said = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "I am Robin"}]
    text = "<think>\n\n</think>\n\nI am Robin"
    row = {"id": "1", "messages": said, "response": text, "finish_reason": "stop", "sample": 0, "expected": "Robin"}
    failed = {**row, "id": "2", "finish_reason": "error", "error": "too long", "response": ""}
    (made / "completions.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(failed) + "\n")
    artifact.write(made, Artifact("completions", str(made / "completions.jsonl")))
    stage = evaluate(tmp_path / "no-model", completions=str(made), reward={"contains": {}})
    scored = stage.run(job(tmp_path))
    assert scored.metrics["contains"] == 1.0 and scored.metrics["errors"] == 1
    assert scored.metrics["rewards"]["contains"]["unscored"] == 1


def test_answers_of_others_are_scored_too(tmp_path: Path) -> None:
    """Rows of a training set, without ids; those without an answer are told, as by `runner reward`."""
    said = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "I am Robin"}]
    row, file = {"messages": said, "expected": "Robin"}, tmp_path / "rows.jsonl"
    file.write_text(2 * (json.dumps(row) + "\n"), encoding="utf-8")
    stage = evaluate(tmp_path / "no-model", completions=str(file), reward={"contains": {}})
    order = job(tmp_path)
    scored = stage.run(order).metrics["rewards"]["contains"]
    assert scored["right"] == "2/2" and "questions" not in scored
    for text, sentence in (
        ("", r"holds no row"),
        ("[1]\n", r"rows.jsonl:1: is a list"),
        (json.dumps({**row, "response": None}), r"rows.jsonl:1: holds no answer"),
        (json.dumps({**row, "messages": [{"role": "user"}]}), r"rows.jsonl:1: its messages are not all mappings"),
    ):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=sentence):
            stage.run(order)


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"prompts": ["a.jsonl"], "reward": {}}, r"stages.score.reward: no reward to score with"),
        ({"prompts": ["a.jsonl"], "reward": {"accuracy2": {}}}, r"stages.score.reward.accuracy2: no reward named"),
        (
            {"prompts": ["b.jsonl"], "reward": {"contains": {}}},
            r"contains: needs the column 'expected', which the data",
        ),
        ({"reward": {"contains": {}}}, r"stages.score.prompts: no question to ask"),
        ({"prompts": ["a.jsonl"], "reward": {"contains": {}}, "pass_at": [4]}, r"pass_at: pass@4 needs 4 answers"),
        (
            {"prompts": ["a.jsonl"], "reward": {"contains": {"params": {"x": 1}}}},
            r"reward.contains.params.x: .*no such",
        ),
    ],
)
def test_mistakes_are_told_when_planning(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: dict[str, Any], sentence: str
) -> None:
    """Before a model is loaded."""
    monkeypatch.chdir(tmp_path)
    questions(tmp_path / "a.jsonl", [1])
    (tmp_path / "b.jsonl").write_text('{"query": "a", "expcted": "b"}\n')
    with pytest.raises(ConfigError, match=sentence):
        evaluate(folder, **keys).check([ROOT], "stages.score")


def test_a_right_stage_passes_the_check(folder: Path, tmp_path: Path) -> None:
    """Local data with the columns, and data of another stage, whose columns nobody knows yet."""
    prompts = [str(questions(tmp_path / "a.jsonl", [1]))]
    evaluate(folder, prompts=prompts, reward={"contains": {}}).check([ROOT], "stages.score")
    evaluate(folder, prompts=["stage:ask"], reward={"contains": {}}).check([ROOT], "stages.score")
