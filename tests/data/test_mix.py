"""A mix as examples: what is taken, what is kept aside, what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from runner.core.errors import ConfigError, DataError
from runner.core.places import package_root
from runner.core.schema import build
from runner.core.specs import Mix
from runner.data import mix

ROOTS = [package_root()]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two datasets of messages, one of self-cognition, one with a broken row."""
    monkeypatch.chdir(tmp_path)
    for name, count in (("a", 20), ("b", 10)):
        write(tmp_path / f"{name}.jsonl", [talk(f"{name}{i}", "yes") for i in range(count)])
    (tmp_path / "self-cognition").mkdir()
    rows = [{"query": "who?", "response": "I am {{NAME}}", "tag": tag} for tag in ("zh", "en")]
    write(tmp_path / "self-cognition/data.jsonl", rows)
    write(tmp_path / "bad.jsonl", [talk("a", "b"), {"messages": []}, {"messages": "["}, talk("c", "d")])
    return tmp_path


def talk(question: str, answer: str, **columns: Any) -> dict[str, Any]:
    """A row."""
    said = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": said, **columns}


def write(file: Path, rows: list[Any]) -> None:
    """As JSON Lines."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def load(*datasets: Any, seed: int = 1, **keys: Any) -> mix.Mixed:
    """Read a mix."""
    return mix.load(build(Mix, {"datasets": list(datasets), **keys}, "mix"), seed, "modelscope", ROOTS)


def questions(examples: list[Any]) -> list[str]:
    """What is asked in each."""
    return [example.messages[0].content for example in examples]


def test_rows_keep_their_place(here: Path) -> None:
    """File, number and dataset, and every column."""
    write(here / "c.jsonl", [talk("q", "r", score=3)])
    made = load("a.jsonl#3", "c.jsonl")
    last = made.train[-1]
    assert (last.source, last.row, last.part, last.columns["score"]) == ("c.jsonl", 0, 1, 3)
    assert [(part.name, part.rows, part.train, part.format) for part in made.parts] == [
        ("a.jsonl", 20, 3, "messages"),
        ("c.jsonl", 1, 1, "messages"),
    ]


def test_one_dataset_does_not_change_what_is_drawn_from_another(here: Path) -> None:
    """And a dataset that is there twice is drawn from twice."""
    alone = questions(load("b.jsonl#4").train)
    assert questions(load("a.jsonl#7", "b.jsonl#4").train)[7:] == alone
    assert questions(load("b.jsonl#4", seed=2).train) != alone
    twice = questions(load("b.jsonl#4", "b.jsonl#4").train)
    assert twice[:4] == alone != twice[4:]


def test_validation_is_apart(here: Path) -> None:
    """In proportion to the rows that differ, and never among the copies."""
    made = load("a.jsonl#60", "b.jsonl", validation={"fraction": 0.1})
    assert (len(made.train), len(made.validation)) == (67, 3)
    assert len(load("a.jsonl#600", validation={"fraction": 0.1}).validation) == 2, "copies would leave few to train on"
    assert not set(questions(made.train)) & set(questions(made.validation))
    assert {example.part for example in made.validation} == {0, 1}
    assert len(load("a.jsonl", validation={"rows": 3}).validation) == 3
    assert len(load("b.jsonl", validation={"fraction": 0.001}).validation) == 1


def test_validation_of_its_own_datasets(here: Path) -> None:
    """All of them, or as many as asked for, and not more than there are."""
    made = load("a.jsonl", validation={"datasets": ["b.jsonl#4"]})
    assert (len(made.train), len(made.validation)) == (20, 4)
    assert {example.part for example in made.validation} == {1}
    with pytest.raises(ConfigError, match=r"mix.validation.datasets.0: 40 rows are more than it has"):
        load("a.jsonl", validation={"datasets": ["b.jsonl#40"]})


def test_interleaving_by_weight(here: Path) -> None:
    """The proportion is exact and the scarcest is used up."""
    made = load({"dataset": "a.jsonl", "weight": 1}, {"dataset": "b.jsonl", "weight": 1}, interleave=True)
    assert [part.train for part in made.parts] == [10, 10]
    with pytest.raises(ConfigError, match="means nothing while rows are taken as they are"):
        load({"dataset": "a.jsonl", "weight": 1})


def test_self_cognition_from_a_folder(here: Path) -> None:
    """Its subset edits the columns, its tag chooses the value."""
    made = load("self-cognition:qwen3#4", variables={"NAME": ["小波", "Bo"]})
    said = [(example.messages[0].content, example.messages[1].content) for example in made.train]
    block = "<think>\n\n</think>\n\n"
    assert said[:2] == [("who? /no_think", f"{block}I am 小波"), ("who? /no_think", f"{block}I am Bo")]
    assert len(said) == 4
    with pytest.raises(DataError, match=r"self-cognition/data.jsonl:1: \{\{NAME\}\} is left over. Give it a value"):
        load("self-cognition")


def test_rows_that_cannot_be_read_are_dropped_with_their_reason(here: Path) -> None:
    """And told with file and row."""
    made = load("bad.jsonl")
    assert questions(made.train) == ["a", "c"]
    assert [(lost.source, lost.row, lost.reason) for lost in made.dropped] == [
        ("bad.jsonl", 1, "messages is empty"),
        ("bad.jsonl", 2, "messages is no JSON"),
    ]


def test_rows_with_images_are_dropped_and_told(here: Path) -> None:
    """They were learned with `<image>` as words, and the picture left out; words alone are words."""
    rows = [talk("<image>what is it?", "a cat", images=["cat.png"]), talk("what is <image> in HTML?", "no tag")]
    write(here / "seen.jsonl", [*rows, talk("hi", "hello", images=[])])
    made = load("seen.jsonl")
    assert questions(list(made.train)) == ["what is <image> in HTML?", "hi"]
    assert [row.reason for row in made.dropped] == ["it has images, and only text is read"]


def test_columns_can_be_given_a_role(here: Path) -> None:
    """Which decides between two; no column disappears."""
    write(here / "two.jsonl", [{"question": "q", "answer": "long", "solution": "42"}])
    with pytest.raises(DataError, match=r"two.jsonl:1: columns answer and solution could be the response. Say which"):
        load("two.jsonl")
    (made,) = load({"dataset": "two.jsonl", "columns": {"solution": "response"}}).train
    assert made.messages[1].content == "42"
    assert made.columns == {"question": "q", "answer": "long", "solution": "42", "response": "42"}
    with pytest.raises(ConfigError, match=r"columns.soltion: two.jsonl has no such column. Did you mean solution\?"):
        load({"dataset": "two.jsonl", "columns": {"soltion": "response"}})


def test_a_filter_comes_before_the_draw(here: Path) -> None:
    """So `take` counts what is left."""
    write(here / "c.jsonl", [talk(str(i), "r", score=i) for i in range(10)])
    made = load({"dataset": "c.jsonl", "filter": "score > 6", "take": 6})
    assert set(questions(made.train)) == {"7", "8", "9"} and len(made.train) == 6
    with pytest.raises(DataError, match="none of its 10 rows passes the filter"):
        load({"dataset": "c.jsonl", "filter": "score > 60"})


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({"datasets": []}, "mix.datasets: empty"),
    "no file": ({"datasets": ["gone.jsonl"]}, "mix.datasets.0: 'gone.jsonl' is no file or folder"),
    "no format": ({"datasets": [{"dataset": "a.jsonl", "format": "mesages"}]}, "Did you mean messages?"),
    "no rule": ({"datasets": [{"dataset": "a.jsonl", "loss_scale": ["defalt"]}]}, "Did you mean default?"),
    "no filter": ({"datasets": [{"dataset": "a.jsonl", "filter": "open(x)"}]}, "mix.datasets.0.filter"),
    "two sizes": ({"datasets": ["a.jsonl"], "validation": {"rows": 1, "fraction": 0.5}}, "says both fraction and rows"),
    "too much aside": (
        {"datasets": ["b.jsonl"], "validation": {"rows": 10}},
        "10 rows are more than the mix can spare",
    ),
    "no variable": ({"datasets": ["a.jsonl"], "variables": {"NAME": []}}, "mix.variables.NAME"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_mix_that_contradicts_itself_is_refused(case: str, here: Path) -> None:
    """With the key."""
    keys, sentence = REFUSED[case]
    with pytest.raises(ConfigError) as told:
        load(*keys.pop("datasets"), **keys)
    assert sentence in str(told.value)


def test_an_empty_file_and_unknown_columns_are_refused(here: Path) -> None:
    """In one sentence each; the empty file when planning, before any stage has worked for it."""
    write(here / "empty.jsonl", [])
    with pytest.raises(DataError, match=r"empty\.jsonl: holds no rows"):
        mix.check(Mix(datasets=["empty.jsonl"]), [here], "huggingface")
    write(here / "odd.jsonl", [{"foo": "a", "bar": "b"}])
    with pytest.raises(DataError, match=r"empty\.jsonl: holds no rows"):
        load("empty.jsonl")
    with pytest.raises(DataError, match=r"odd.jsonl:1: its columns \(bar, foo\) are not those of a known format"):
        load("odd.jsonl")
