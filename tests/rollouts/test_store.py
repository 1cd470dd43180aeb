"""Rollouts on the disk: whole or absent, and completions.jsonl without a line twice or half."""

import dataclasses
import datetime
import json
from pathlib import Path

from runner.core.types import Completion
from runner.rollouts.answers import Answer, Prompt, Rollout
from runner.rollouts.store import FILE, WIDEST, Store, left_out, line

PROMPT = Prompt("a:0", "a", 0, ({"role": "user", "content": "hi"},), {}, "hi", (5, 6), 2)


def rollout(number: int) -> Rollout:
    made = Completion("é", None, "stop", 2, 2, 0, (7, 8), (-0.5, -1.0), (1, 1))
    answers = tuple(Answer(0, n, made, 1.5, {"x": None}, None, 0.25, old=(-0.5, -1.1)) for n in range(2))
    return Rollout(number, ((answers,),), {"reward": 0.5}, 1)


def test_a_rollout_comes_back_as_it_was_and_only_for_the_same_settings(tmp_path: Path) -> None:
    Store(tmp_path, "mark").keep(rollout(3))
    assert Store(tmp_path, "mark").kept(3) == rollout(3)
    assert Store(tmp_path, "other").kept(3) is None and Store(tmp_path, "mark").kept(4) is None


def test_a_broken_one_is_none(tmp_path: Path) -> None:
    store = Store(tmp_path, "mark")
    store.keep(rollout(3))
    file = tmp_path / "rollouts/3.json"
    file.write_text(file.read_text()[:-40])
    assert store.kept(3) is None


def test_rollouts_are_forgotten_by_number(tmp_path: Path) -> None:
    store = Store(tmp_path, "mark")
    for number in range(5):
        store.keep(rollout(number))
    store.forget(3)
    store.forget(0, 1)
    assert [store.kept(number) is not None for number in range(5)] == [False, True, True, False, False]


def test_answers_after_an_update_and_half_lines_are_cut_off(tmp_path: Path) -> None:
    store = Store(tmp_path, "mark")
    for update in (1, 3, 5):
        store.write(update, rollout(update), [PROMPT])
    with open(tmp_path / FILE, "a") as stream:
        stream.write('{"update": 5, "id"')
    store.cut_back(3)
    lines = [json.loads(line) for line in (tmp_path / FILE).read_text().splitlines()]
    assert [line["update"] for line in lines] == [1, 1, 3, 3]
    assert lines[0]["messages"][-1]["content"] == "é" and lines[0]["advantage"] == 0.25


def test_a_line_carries_the_columns_of_its_row_but_for_those_that_are_too_wide() -> None:
    """Its own keys win; what JSON does not hold is named like what is too wide."""
    day = datetime.date(2020, 1, 2)
    held = {"solution": "4", "id": "mine", "reward": 9, "days": [day], "tests": "x" * WIDEST, "blob": b"x"}
    prompt = dataclasses.replace(PROMPT, columns=held)
    made = line(1, rollout(0).groups[0][0], prompt)
    assert made["solution"] == "4" and made["id"] == "a:0" and made["reward"] is None and made["days"] == ["2020-01-02"]
    assert made["left_out"] == ["tests", "blob"] == left_out(prompt) and not {"tests", "blob"} & set(made)
    assert "left_out" not in line(1, rollout(0).groups[0][0], PROMPT)
