"""`runner reward`: answers that are there already, scored by the rewards of a command line or of a recipe."""

import json
from pathlib import Path
from typing import Any

import pytest

from runner.cli.reward import answers, spread

HALF = """
def half(completions, *, share: float = 0.5):
    return [share if "a" in text else None for text in completions]
"""


@pytest.fixture
def user(project: Any) -> Any:
    """Five answers and a reward."""
    rows = [{"id": n, "messages": [{"role": "user", "content": "q"}], "response": "ab"[n % 2] * n} for n in range(1, 6)]
    project.write("rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    project.write("plugins/rewards/half.py", HALF)
    return project


def test_a_table_and_a_line_an_answer(user: Any) -> None:
    """Mean and spread over what was scored; what was not is counted; the weighted sum stands under the rewards."""
    words = [
        "reward=[half,exact_match]",
        "reward.half.params.share=2.0",
        "reward.half.weight=0.5",
        "--output",
        "to/s.jsonl",
    ]
    user.write("rows.jsonl", "".join(
        json.dumps({**json.loads(line), "expected": "a" if n else "bb"}) + "\n"
        for n, line in enumerate((user.root / "rows.jsonl").read_text().splitlines())
    ))  # fmt: skip
    code, out, told = user.call("reward", "rows.jsonl", *words)
    assert (code, told) == (0, "")
    cells = {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}
    assert cells["half"][1] == "2.000" and cells["half"][-2:] == ["2:", "2"] and cells["half"][-5:-2] == ["2", "3", "0"]
    assert "weighted sum" in out and "5 answers of rows.jsonl, scores in to/s.jsonl" in out
    lines = [json.loads(line) for line in (user.root / "to/s.jsonl").read_text().splitlines()]
    assert [line["scores"]["half"] for line in lines] == [None, 2.0, None, 2.0, None]
    assert [line["id"] for line in lines] == [1, 2, 3, 4, 5]
    assert lines[1]["total"] == pytest.approx(1.0 + lines[1]["scores"]["exact_match"])


def test_the_rewards_of_a_recipe_serve_too(user: Any) -> None:
    user.recipe("# Half.\nname: own\nreward: {half: {params: {share: 0.25}}}\nstages: {}\n", "own")
    code, out, told = user.call("reward", "rows.jsonl", "+recipe=own")
    assert (code, told) == (0, "") and "0.250" in out


def test_a_run_means_the_answers_that_it_wrote_last(user: Any) -> None:
    """As `runner answers` takes it; those of a training too, whose artifact is a model."""
    user.write("outputs/mine/train/completions.jsonl", (user.root / "rows.jsonl").read_text())
    for place in ("outputs/mine", "outputs/mine/train"):
        code, out, told = user.call("reward", place, "reward=[half]")
        assert (code, told) == (0, "") and f"5 answers of {place}" in out


def test_columns_that_the_answers_of_a_training_do_not_carry_are_told(user: Any) -> None:
    lines = (user.root / "rows.jsonl").read_text().splitlines()
    user.write("wide.jsonl", "".join(json.dumps({**json.loads(line), "left_out": ["tests"]}) + "\n" for line in lines))
    code, _, told = user.call("reward", "wide.jsonl", "reward=[code_execution]")
    assert code == 2
    assert told.startswith("reward code_execution: needs the column 'tests', which these answers do not carry, as it")


def test_answers_of_any_rows(tmp_path: Path) -> None:
    """A stage's folder, messages that end with the answer, or a response of its own beside a prompt."""
    said = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    (tmp_path / "completions.jsonl").write_text(
        json.dumps({"messages": said}) + "\n" + json.dumps({"messages": said[:1], "response": "b"}) + "\n"
    )
    found = answers(str(tmp_path))
    assert [row["response"] for row in found] == ["a", "b"]
    assert [row["messages"][-1]["content"] for row in found] == ["a", "b"]
    assert [len(row["messages"]) for row in found] == [2, 2]


@pytest.mark.parametrize(
    ("scores", "text"),
    [
        ([], ""),
        ([1.0, 0.0, 1.0], "0: 1  1: 2"),
        ([-0.0, 0.0], "0: 2"),
        ([0.0, 0.1, 0.2, 0.3, 1.0], "0 ████     █ 1"),
        ([0.0] * 8 + [0.3, 0.5, 0.7, 0.9], "0 █  ▁ ▁ ▁ ▁ 0.9"),
    ],
)
def test_how_scores_are_spread(scores: list[float], text: str) -> None:
    """Few values are counted, many drawn."""
    assert spread(scores) == text


@pytest.mark.parametrize(
    "words",
    [
        ["reward=[soft_overlong]", "reward.soft_overlong.params={max_length: 9, cache: 3}"],
        ["reward=[cosine]", "reward.cosine.params={max_length: 9}"],
    ],
)
def test_rows_without_lengths_are_told_by_their_column(user: Any, words: list[str]) -> None:
    """It was a KeyError and its traceback, an answer at a time."""
    pytest.importorskip("math_verify")
    user.write("rows.jsonl", json.dumps({"messages": [], "response": "4", "solution": "4"}) + "\n")
    code, _, told = user.call("reward", "rows.jsonl", *words)
    assert code == 2 and "column completion_tokens: no row has it, and lengths are needed. Write into" in told
    assert "Traceback" not in told


@pytest.mark.parametrize("messages", ['[1, {"role": "user", "content": "q"}]', '[{"role": "user"}]'])
def test_messages_of_another_shape_are_told_by_their_row(user: Any, messages: str) -> None:
    """It was a traceback."""
    user.write("odd.jsonl", f'{{"messages": {messages}, "response": "a"}}\n')
    told = "odd.jsonl:1: its messages are not all mappings with role and content. Mend or remove the row.\n"
    assert user.call("reward", "odd.jsonl", "reward=[half]") == (2, "", told)
