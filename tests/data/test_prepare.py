"""From a mix to what is trained on: encoders by dataset, the report, rows that are lost."""

import json
from pathlib import Path
from typing import Any

import pytest

from runner.core.errors import DataError
from runner.core.places import package_root
from runner.core.schema import build
from runner.core.specs import Mix, Template
from runner.data.cache import clear
from runner.data.prepare import Prepared, Reading, prepare
from tests.data.test_mix import talk, write
from tests.tiny import tiny_tokenizer

TOKENIZER = tiny_tokenizer()


def prepared(folder: Path, *datasets: Any, length: int = 60, allowed: float = 1.0, **keys: Any) -> Prepared:
    """Read and encode a mix."""
    given = build(Mix, {"datasets": list(datasets), **keys}, "mix")
    reading = Reading(Template(), ["default"], length)
    return prepare(
        TOKENIZER, given, reading, seed=1, hub="modelscope", places=[package_root()], max_dropped=allowed, folder=folder
    )


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Short rows, and some that are too long or hold nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUNNER_CACHE", str(tmp_path / ".cache"))
    write(tmp_path / "a.jsonl", [talk(f"q{i}", "yes " * (1 if i % 5 else 40)) for i in range(20)])
    write(tmp_path / "b.jsonl", [talk("q", "no"), {"messages": []}])
    return tmp_path


def test_lost_rows_are_counted_and_written(here: Path) -> None:
    """By reason; the file is gone when nothing is lost."""
    made = prepared(here, "a.jsonl", "b.jsonl")
    lines = [json.loads(line) for line in (here / "dropped.jsonl").read_text().splitlines()]
    assert [(line["source"], line["row"], line["reason"]) for line in lines] == [
        ("b.jsonl", 1, "messages is empty"),
        *(("a.jsonl", i, "longer than max_length") for i in (0, 5, 10, 15)),
    ]
    assert "dropped: 4 rows, longer than max_length" in made.report
    assert made.train.rows == [i for i in range(21) if i not in (0, 5, 10, 15)]
    prepared(here, "a.jsonl", length=200)
    assert not (here / "dropped.jsonl").exists()


def test_too_many_lost_rows_are_refused(here: Path) -> None:
    """With the reason, an example and the key."""
    with pytest.raises(
        DataError, match=r"a.jsonl: 4 of 20 rows cannot be trained on: longer than max_length; for example"
    ) as told:
        prepared(here, "a.jsonl", allowed=0.05)
    assert "data.max_dropped" in str(told.value)
    with pytest.raises(DataError, match=r"a.jsonl: row 0: longer than max_length \(.*\). None of the 20 rows"):
        prepared(here, "a.jsonl", length=4)


def test_the_report_tells_shares(here: Path) -> None:
    """By rows and by trained tokens."""
    write(here / "long.jsonl", [talk("q", "yes " * 10) for _ in range(4)])
    made = prepared(here, "b.jsonl#4", "long.jsonl", length=200)
    rows = {line.split(":")[0]: line for line in made.report}
    assert "2 rows (33%)" in rows["b.jsonl"] and "4 rows (67%)" in rows["long.jsonl"]
    assert "6 trained turns that do not think" in made.report


def test_answers_that_were_cut_off_are_told(here: Path) -> None:
    """Rows of `infer` say so; the filter that the sentence names leaves them out."""
    rows = [talk(f"q{i}", "yes", finish_reason="stop" if i else "length") for i in range(3)]
    write(here / "made.jsonl", rows)
    told = [line for line in prepared(here, "made.jsonl", "b.jsonl").report if "cut off" in line]
    assert told == [
        "1 answers were cut off (finish_reason: length) and are learned as if they ended there; at their dataset the "
        "key filter: 'finish_reason != \"length\"' leaves them out"
    ]
    made = prepared(here, {"dataset": "made.jsonl", "filter": told[0].split("'")[1]})
    assert len(made.train.sequences) == 2 and "cut off" not in str(made.report)


def test_a_dataset_may_have_rules_and_turns_of_its_own(here: Path) -> None:
    """Those of the recipe are for the others."""
    two = [*talk("a", "one")["messages"], *talk("b", "two")["messages"]]
    write(here / "two.jsonl", [{"messages": two}])
    write(here / "other.jsonl", [{"messages": two}])
    rules = {"dataset": "two.jsonl", "loss_scale": ["last_round"]}
    made = prepared(here, rules, "other.jsonl", {"dataset": "other.jsonl", "turns": "last"}, length=200)
    counts = [sum(label != -100 for label in sequence.labels) for sequence in made.train.sequences]
    assert counts[0] == counts[2] and counts[1] > counts[0]


def test_the_same_seed_gives_the_same_sequences(here: Path) -> None:
    """And copies of a row are rows of their own."""
    first, again = (prepared(here, "a.jsonl#50", length=400, validation={"fraction": 0.1}) for _ in range(2))
    assert list(first.train.sequences) == list(again.train.sequences)
    assert (len(set(first.train.rows)), len(first.validation.sequences)) == (48, 2)


def test_a_second_start_takes_what_the_first_encoded(here: Path) -> None:
    """With the same rows, losses and report."""
    first, again = (prepared(here, "a.jsonl", "b.jsonl") for _ in range(2))
    assert (first.cached, again.cached) == (False, True)
    assert list(first.train.sequences) == list(again.train.sequences)
    assert (first.dropped, first.report, first.train.rows) == (again.dropped, again.report, again.train.rows)
    assert first.train.lengths == [len(sequence.input_ids) for sequence in again.train.sequences]
    with pytest.raises(DataError, match="cannot be trained on"):
        prepared(here, "a.jsonl", "b.jsonl", allowed=0.0)


def change_row(here: Path) -> None:
    """One row becomes another, the file's size stays."""
    text = (here / "b.jsonl").read_text()
    (here / "b.jsonl").write_text(text.replace('"no"', '"ok"'))


def change_template(here: Path) -> None:
    """The chat template says something else."""
    TOKENIZER.chat_template = TOKENIZER.chat_template.replace("Be kind.", "Be good.")


CHANGES: dict[str, Any] = {
    "a row": change_row,
    "the template": change_template,
    "max_length": {"length": 61},
    "the rules": {"rules": ["last_round"]},
    "a rule's parameter": {"rules": [{"default": {"parity": "swift"}}]},
    "turns": {"template": Template(turns="last")},
    "the seed": {"seed": 2},
    "the count": {"count": "#2"},
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_a_label_is_encoded_anew(change: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And only that."""
    monkeypatch.setattr(TOKENIZER, "chat_template", TOKENIZER.chat_template)

    def cached(**keys: Any) -> bool:
        given = build(Mix, {"datasets": [f"b.jsonl{keys.get('count', '')}"]}, "mix")
        reading = Reading(keys.get("template", Template()), keys.get("rules", ["default"]), keys.get("length", 60))
        more = {"seed": keys.get("seed", 1), "hub": "modelscope", "places": [package_root()], "max_dropped": 1.0}
        return prepare(TOKENIZER, given, reading, **more).cached

    assert not cached()
    assert cached()
    made = CHANGES[change]
    assert not (cached(**made) if isinstance(made, dict) else (made(here), cached())[1])


def test_inference_keys_do_not_count_for_the_cache(here: Path) -> None:
    """A response prefix changes no label."""
    prepared(here, "b.jsonl")
    given = build(Mix, {"datasets": ["b.jsonl"]}, "mix")
    reading = Reading(Template(response_prefix="So", thinking="on"), ["default"], 60)
    more = {"seed": 1, "hub": "modelscope", "places": [package_root()], "max_dropped": 1.0}
    assert prepare(TOKENIZER, given, reading, **more).cached


def test_several_processes_encode_the_same(here: Path) -> None:
    """Piece by piece, in the order of the rows."""
    rows = [talk(f"q{i} <|im_end|>" if i % 7 == 0 else f"q{i}", f"yes {i}") for i in range(2000)]
    write(here / "many.jsonl", [*rows, {"messages": [{"role": "user", "content": "only"}]}])
    given = build(Mix, {"datasets": ["many.jsonl", "a.jsonl"], "validation": {"rows": 5}}, "mix")
    reading = Reading(Template(), ["default"], 60)
    made = []
    for processes in (1, 2):
        told: list[tuple[int, int]] = []
        made.append(
            prepare(
                TOKENIZER, given, reading, seed=1, hub="modelscope", places=[package_root()], max_dropped=1.0,
                processes=processes, progress=lambda done, total, told=told: told.append((done, total)),
            )
        )  # fmt: skip
        assert told[-1] == (2021, 2021) and told == sorted(told)
        clear()
    one, two = made
    assert not two.cached
    assert (one.report, one.dropped, list(one.train.rows)) == (two.report, two.dropped, list(two.train.rows))


def test_a_cache_that_cannot_be_written_is_done_without(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The work is the same, and done again next time."""
    (here / "file").write_text("")
    monkeypatch.setenv("RUNNER_CACHE", str(here / "file"))
    first, again = (prepared(here, "b.jsonl") for _ in range(2))
    assert not first.cached and not again.cached
    assert list(first.train.sequences) == list(again.train.sequences)
