"""Rows that cannot be trained on: counted by reason in a file; more than data.max_dropped of them stop the run."""

import json
from collections import Counter

import pytest

from tests.user import GOOD, User, talk

BAD = '{"messages": [{"role": "user", "content": "q"}]}\n'
LONG = talk("a b c " * 200, "d")


def reasons(user: User) -> Counter[str]:
    """What dropped.jsonl counts."""
    text = (user.root / "outputs" / "mine" / "train" / "dropped.jsonl").read_text()
    return Counter(json.loads(line)["reason"] for line in text.splitlines())


@pytest.mark.parametrize(("allowed", "code"), [("0.05", 2), ("0.13", 2), ("0.14", 0)])
def test_so_many_may_be_dropped(user: User, allowed: str, code: int) -> None:
    """3 of 23 rows are 13.04%."""
    user.write("rows.jsonl", GOOD + LONG * 2 + BAD)
    ended, told = user.tell("recipe=mine", f"data.max_dropped={allowed}")
    assert ended == code, told
    assert code == 0 or "rows.jsonl: 3 of 23 rows cannot be trained on: longer than max_length" in told
    assert reasons(user) == {"longer than max_length": 2, "it has no assistant turn": 1}


def test_a_few_rows_are_dropped_and_told(user: User) -> None:
    """One of 21 is under 5%: the training runs, and says what it left out."""
    user.write("rows.jsonl", GOOD + LONG)
    code, told = user.tell("recipe=mine")
    assert code == 0, told
    assert reasons(user) == {"longer than max_length": 1}
    made = json.loads((user.root / "outputs" / "mine" / "train" / "dropped.jsonl").read_text())
    assert (made["source"], made["row"]) == ("rows.jsonl", 20)


def test_a_good_mix_leaves_no_file_of_dropped_rows(user: User) -> None:
    """Also after one that had some."""
    user.write("rows.jsonl", GOOD + LONG)
    assert user.tell("recipe=mine")[0] == 0
    user.write("rows.jsonl", GOOD)
    assert user.tell("recipe=mine", "on_change=replace")[0] == 0
    assert not (user.root / "outputs" / "mine" / "train" / "dropped.jsonl").exists()
