"""Two evaluations side by side, printed and written."""

import json
from pathlib import Path
from typing import Any

import pytest

from runner.core import artifact, schema
from runner.core.artifact import Artifact
from runner.core.errors import DataError
from runner.core.job import Job
from runner.stages.compare import Compare


def scores(folder: Path, rows: list[tuple[str, str, str, float | None]]) -> Path:
    """A finished evaluate stage: (id, source, response, score)."""
    folder.mkdir()
    lines: list[dict[str, Any]] = [
        {"question": f"Question {id}?", "id": id, "source": source, "sample": 0, "response": text,
         "finish_reason": "stop", "reference": None, "scores": {"contains": score}, "total": score}
        for id, source, text, score in rows
    ]  # fmt: skip
    (folder / "scores.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    artifact.write(folder, Artifact("scores", str(folder / "scores.jsonl")))
    return folder


def compare(folder: Path, before: Path, after: Path, **keys: Any) -> Artifact:
    """Run the stage."""
    (folder / "compare").mkdir()
    stage = schema.build(Compare, {"before": str(before), "after": str(after), **keys})
    return stage.run(Job("compare", folder / "compare", folder))


def test_both_answers_and_scores_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By source: printed up to `show`, written whole, counted."""
    before = scores(
        tmp_path / "before", [("1", "a/who.jsonl", "I am SmolLM", 0.0), ("2", "b/what.jsonl", "Paris", 1.0)]
    )
    after = scores(
        tmp_path / "after",
        [
            ("2", "b/what.jsonl", "Paris | it is", 1.0),
            ("1", "a/who.jsonl", "I am Robin", 1.0),
            ("3", "b/what.jsonl", "x", 0.0),
        ],
    )
    made = compare(tmp_path, before, after)
    printed = capsys.readouterr().out
    assert "I am SmolLM" in printed and "I am Robin" in printed and "Question 3?" not in printed
    assert [line.split() for line in printed.splitlines() if line.startswith("who.jsonl")] == [
        ["who.jsonl", "contains", "0/1", "1/1"]
    ]
    assert made.kind == "none" and made.metrics["contains_before"] == 0.5 and made.metrics["contains_after"] == 1.0
    assert made.metrics["sources"]["a/who.jsonl"]["contains"]["after"]["right"] == "1/1"
    written = [json.loads(line) for line in (tmp_path / "compare" / "comparison.jsonl").read_text().splitlines()]
    assert [(pair["id"], pair["before"], pair["after"]) for pair in written] == [
        ("1", "I am SmolLM", "I am Robin"), ("2", "Paris", "Paris | it is"),
    ]  # fmt: skip
    assert "Paris \\| it is" in (tmp_path / "compare" / "comparison.md").read_text()


def test_answers_without_scores_are_compared_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two infer stages; no more than `show` of them are printed."""
    for name, said in (("before", "old"), ("after", "new")):
        (tmp_path / name).mkdir()
        rows = [
            {"id": str(n), "messages": [{"role": "user", "content": f"Q{n}"}, {"role": "assistant", "content": said}],
             "response": said, "reasoning": None, "reference": None, "finish_reason": "stop", "sample": 0}
            for n in range(4)
        ]  # fmt: skip
        file = tmp_path / name / "completions.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        artifact.write(tmp_path / name, Artifact("completions", str(file)))
    made = compare(tmp_path, tmp_path / "before", tmp_path / "after", show=2)
    printed = capsys.readouterr().out
    assert "Q1" in printed and "Q2" not in printed and made.metrics == {"questions": 4, "sources": {"None": {}}}


def test_answers_of_others_are_compared_each_with_its_own(tmp_path: Path) -> None:
    """Without ids all but the last were lost, and its figures stood for all."""
    for name, said in (("before", "old"), ("after", "new")):
        rows = [{"response": f"{said} {n}"} for n in range(3)]
        rows += [{"id": ["x"], "sample": "?", "response": f"{said} {n}"} for n in (3, 4)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    compare(tmp_path, tmp_path / "before.jsonl", tmp_path / "after.jsonl")
    written = [json.loads(line) for line in (tmp_path / "compare" / "comparison.jsonl").read_text().splitlines()]
    assert [(pair["before"], pair["after"]) for pair in written] == [(f"old {n}", f"new {n}") for n in range(5)]


def test_nothing_in_common_is_refused(tmp_path: Path) -> None:
    """One sentence."""
    before = scores(tmp_path / "before", [("1", "a", "x", 0.0)])
    after = scores(tmp_path / "after", [("2", "a", "x", 0.0)])
    with pytest.raises(DataError, match="answer no question in common"):
        compare(tmp_path, before, after)
