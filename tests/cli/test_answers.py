"""`runner answers`: a run's answers by reward, by length, by update, while the file grows."""

import json
from pathlib import Path

import pytest


@pytest.fixture
def run(project) -> Path:
    """A run whose stage has written ten answers and half of another."""
    lines = []
    for n in range(10):
        asked = [{"role": "user", "content": f"question {n}"}, {"role": "assistant", "content": f"answer {n}"}]
        lines.append(
            {
                "update": n // 4 + 1, "id": f"rows:{n}", "messages": asked, "response": f"answer {n}", "advantage": 0.5,
                "rewards": {"mine": None if n == 9 else n / 10}, "reward": None if n == 9 else n / 10,
                "completion_tokens": 100 - n, "finish_reason": "stop",
            }
        )  # fmt: skip
    text = "".join(json.dumps(line) + "\n" for line in lines) + '{"update": 3, "resp'
    return project.write("outputs/mine/train/completions.jsonl", text)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--best", "--count", "2"], [8, 7]),
        (["--worst", "--count", "2"], [0, 1]),
        (["--longest", "--count", "1"], [0]),
        (["--shortest", "--count", "1"], [9]),
        (["--update", "2"], [4, 5, 6, 7]),
        (["--id", "rows:3"], [3]),
        (["--contains", "answer 6"], [6]),
        (["--count", "2"], [8, 9]),
        (["--count", "2", "--skip", "2"], [6, 7]),
        (["--count", "4", "--skip", "8"], [0, 1]),
        (["--best", "--count", "2", "--skip", "2"], [6, 5]),
        (["--worst", "--skip", "20"], []),
    ],
)
def test_answers_are_chosen_and_ordered(project, run: Path, words: list[str], shown: list[int]) -> None:
    for place in ("outputs/mine", "outputs/mine/train", str(run)):
        code, out, told = project.call("answers", place, *words)
        assert (code, told) == (0, "")
        assert [line.split()[-1] for line in out.splitlines() if line.startswith("<<<")] == [str(n) for n in shown]
    assert "mine 0.8  reward 0.8  advantage 0.5  92 tokens, stop" in project.call("answers", str(run), "--best")[1]


def test_answers_to_prompts_kept_aside(project, run: Path) -> None:
    """In a file of their own, which not every run has."""
    code, _, told = project.call("answers", "outputs/mine", "--evaluation")
    assert code == 2 and "evaluations.jsonl: not found. A training on sampled answers writes it" in told
    run.with_name("evaluations.jsonl").write_text(run.read_text().replace("answer ", "held out "))
    for place in ("outputs/mine", "outputs/mine/train"):
        code, out, _ = project.call("answers", place, "--evaluation", "--best", "--count", "1")
        assert code == 0 and "<<< held out 8" in out and "evaluations.jsonl, best first" in out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["outputs/mine", "--best", "--longest"], "answers: --best and --longest are two orders. Take one of them."),
        (["outputs/mine", "--count", "-3"], "answers: no answers are --count -3 --skip 0. Count from 1."),
        (["plain.jsonl"], "plain.jsonl:1: holds no answer with `messages` and `response`. Give the answers of a run."),
        (["nowhere"], "nowhere: not found. Give a run, a stage or a file of answers, such as outputs/my_run."),
        ([], "answers: nothing to page through. Write: answers outputs/my_run [--best]"),
        (["outputs", "--bst"], "answers: no such flag: --bst. Write: answers outputs/my_run [--best]"),
    ],
)
def test_mistakes(project, run: Path, words: list[str], sentence: str) -> None:
    project.write("plain.jsonl", '{"prompt": "q"}\n')
    code, _, told = project.call("answers", *words)
    assert code == 2 and sentence in told


def test_rows_of_others_are_shown_as_far_as_they_go(project) -> None:
    """What they lack was a traceback, and that none has a reward was not told."""
    for row in (
        {"messages": [1, {"role": "user"}, {"content": "x"}], "response": "an answer", "rewards": 5, "reward": "high"},
        {"messages": [{"role": "user", "content": None}], "response": "an answer", "rewards": {"mine": "b"}},
    ):
        project.write("rows.jsonl", json.dumps(row) + "\n")
        code, out, told = project.call("answers", "rows.jsonl")
        assert (code, told) == (0, "") and "<<< an answer" in out
        assert "best first; none that is asked for has a reward" in project.call("answers", "rows.jsonl", "--best")[1]
    (project.root / "rows.jsonl").write_bytes(b"\xff\n")
    assert project.call("answers", "rows.jsonl")[2] == "rows.jsonl:1: is not UTF-8 text. Mend or remove the line.\n"
