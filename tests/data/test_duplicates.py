"""Rows that mean the same are told, and taken out where the recipe says so."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.core.errors import DataError
from runner.core.places import package_root
from runner.core.specs import Mix, Validation
from runner.core.types import Example, Message
from runner.data import dropped, mix
from runner.data.duplicates import Found, meaning
from runner.data.duplicates import look as looked

SAID = (Message("user", "q"), Message("assistant", "a"))


def row(number: int, text: str = "q", source: str = "a.jsonl") -> Example:
    """A row of a file."""
    return Example((Message("user", text), Message("assistant", "a")), source, number)


def look(train: list[Example], validation: list[Example], wanted: Any) -> tuple[list[Example], Found]:
    """The rows that are left, and what was found."""
    placed = [((example.source, example.row), meaning(example)) for example in train]
    found = looked(placed, {meaning(example) for example in validation}, wanted)
    return [example for example, (place, _) in zip(train, placed, strict=True) if place not in found.gone], found


@given(st.lists(st.sampled_from("abc"), max_size=12), st.lists(st.sampled_from("abc"), max_size=4))
def test_dropping_keeps_the_first_of_each_and_nothing_that_is_kept_aside(train: list[str], aside: list[str]) -> None:
    """And keeping keeps all."""
    rows = [row(number, text) for number, text in enumerate(train)]
    held = [row(100 + number, text) for number, text in enumerate(aside)]
    (kept, told), (left, found) = look(rows, held, "keep"), look(rows, held, "drop")
    assert kept == rows and not told.dropped
    texts = [example.messages[0].content for example in left]
    assert texts == [text for text in dict.fromkeys(train) if text not in aside]
    assert sorted(gone.row for gone in found.dropped) == sorted({e.row for e in rows} - {e.row for e in left})
    assert bool(told.told) == bool(found.dropped)


def test_copies_that_were_asked_for_are_no_duplicates() -> None:
    """The same row of the same file."""
    left, found = look([row(1), row(2, "other"), row(1)], [], "drop")
    assert [example.row for example in left] == [1, 2, 1] and not found.told


def test_sentences_name_the_sources() -> None:
    """And how to take the rows out."""
    rows = [row(1), row(2), row(1, source="b.jsonl"), row(5, "x"), row(6, "x", "b.jsonl")]
    _, found = look(rows, [row(9, "x", "v.jsonl")], "keep")
    assert found.told == [
        "3 rows to train on are the same as an earlier one (2 in b.jsonl and a.jsonl, 1 in a.jsonl); "
        "mix.duplicates=drop takes them out",
        "2 rows to train on are kept aside for validation too (1 in a.jsonl, 1 in b.jsonl); "
        "mix.duplicates=drop takes them out",
    ]
    assert look(rows, [], "drop")[1].told[0].endswith("; they are taken out")


DIFFERENT = [
    Example(SAID),
    Example((*SAID, Message("user", "b"))),
    Example((Message("user", "qassistant"), Message("assistant", "a"))),
    Example((Message("system", "q"), SAID[1])),
    Example((SAID[0], Message("assistant", "a", reasoning="hm"))),
    Example((SAID[0], Message("assistant", "a", loss=False))),
    Example((SAID[0], Message("assistant", "a", loss_scale=2.0))),
    Example((SAID[0], Message("assistant", "a", ({"function": {"name": "f"}},)))),
    Example(SAID, rejected=SAID),
    Example(SAID, label=True),
    Example(SAID, label=False),
    Example(SAID, tools=({"type": "function"},)),
    Example((), text="q"),
    Example((), text="\ud800"),
]


def test_what_differs_in_meaning_differs() -> None:
    """Where a row lies and what columns it has does not count."""
    assert len({meaning(example) for example in DIFFERENT}) == len(DIFFERENT)
    assert meaning(Example(SAID, "a", 1, columns={"x": 1}, part=2)) == meaning(Example(SAID, "b", 2))


def written(file: Path, rows: list[dict[str, Any]]) -> str:
    """A file of rows."""
    file.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
    return str(file)


def test_a_mix_tells_and_drops(tmp_path: Path) -> None:
    """Whatever the columns are called; taken out rows are listed, and are not lost ones."""
    one = written(tmp_path / "one.jsonl", [{"query": f"q{i % 6}", "response": "a"} for i in range(8)])
    said = [{"role": "user", "content": "q1"}, {"role": "assistant", "content": "a"}]
    aside = Validation(datasets=[written(tmp_path / "two.jsonl", [{"messages": said}])])
    kept = mix.load(Mix(datasets=[one], validation=aside), 1, "modelscope", [package_root()])
    assert (len(kept.train), len(kept.told)) == (8, 2)
    left = mix.load(Mix(datasets=[one], validation=aside, duplicates="drop"), 1, "modelscope", [package_root()])
    assert sorted(example.messages[0].content for example in left.train) == ["q0", "q2", "q3", "q4", "q5"]
    assert dropped.by_reason(left.dropped) == {dropped.LEAK: 2, dropped.COPY: 1}
    dropped.refuse_many(left.dropped, 9, 0.0)
    with pytest.raises(DataError):
        dropped.refuse_many([*left.dropped, dropped.Dropped("a", 1, "bad")], 10, 0.1)
