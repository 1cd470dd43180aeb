"""Rows and tokens before the data is read."""

import json

import pytest

from runner.core.specs import Dataset, Mix, Validation
from runner.data.size import size_of, size_of_mix

ROW = json.dumps({"messages": [{"role": "user", "content": "hello there"}, {"role": "assistant", "content": "hi"}]})


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Ten rows in each form, blank lines among them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jsonl").write_text("\n".join([ROW] * 10) + "\n\n")
    (tmp_path / "a.json").write_text(json.dumps([json.loads(ROW)] * 10))
    (tmp_path / "a.csv").write_text("query,response\n" + "a,b\n" * 10)
    (tmp_path / "many").mkdir()
    (tmp_path / "many/b.jsonl").write_text("\n".join([ROW] * 10))
    return tmp_path


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "many"])
def test_rows_of_local_files_are_counted(files, name: str) -> None:
    """And cut by `#take`, or copied where it asks for more than there are."""
    assert (size_of(name, []).rows, size_of(name, []).exact) == (10, True)
    assert size_of(f"{name}#4", []).rows == 4
    assert size_of(Dataset(dataset=name, take=3), []).rows == 3
    assert size_of(f"{name}#99", []).rows == 99


def test_a_hub_is_believed_as_far_as_the_recipe_says(files) -> None:
    """`#2000` is about 2000; without it nothing is known."""
    assert size_of("swift/self-cognition:qwen3#600", []) == size_of(Dataset(dataset="x/y", take=600), [])
    assert size_of("x/y", []).rows is None
    assert size_of("x/y#5", []).exact is False
    assert size_of_mix(Mix(datasets=["a.jsonl", "x/y"]), []).rows is None


def test_validation_is_kept_aside(files) -> None:
    """By fraction or by number."""
    assert size_of_mix(Mix(datasets=["a.jsonl", "a.json"], validation=Validation(fraction=0.1)), []).rows == 18
    assert size_of_mix(Mix(datasets=["a.jsonl"], validation=Validation(rows=3)), []).rows == 7


def test_tokens_are_of_the_right_size(files) -> None:
    """Within a factor of two of one token every four bytes."""
    tokens = size_of("a.jsonl", []).tokens
    assert tokens is not None
    assert len(ROW) * 10 / 8 < tokens < len(ROW) * 10 / 2


def test_a_broken_file_is_left_to_the_reader(files) -> None:
    """Planning does not fail on it; reading it does, with its line."""
    (files / "bad.json").write_text("[{")
    assert size_of("bad.json", []).rows is None
