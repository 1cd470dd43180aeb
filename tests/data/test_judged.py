"""Preference pairs and labelled answers as sequences: which is which, what is trained, and both sides or none."""

from pathlib import Path
from typing import Any

import pytest

from runner.core.places import package_root
from runner.core.schema import build
from runner.core.specs import Mix, Template
from runner.core.types import Encoded, Example, Message
from runner.data import rules
from runner.data.dropped import Dropped
from runner.data.encode import Encoder
from runner.data.prepare import Reading, prepare
from runner.formats.kto import kto
from runner.formats.preference import preference
from tests.data.test_encode import END, KINDS, trained_text
from tests.data.test_mix import write


def encoded(example: Example, kind: str = "chatml", rows: Any = "pairs", **keys: Any) -> list[Encoded] | Dropped:
    """The sequences of a row."""
    length, overlong = keys.pop("length", None), keys.pop("overlong", "drop")
    names = keys.pop("names", ["default"])
    return Encoder(KINDS[kind], Template(**keys), rules.load(names), length, overlong, rows).encode(example)


def talk(*said: str) -> list[dict[str, str]]:
    """Turns of user and assistant."""
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(said)]


ROWS = {
    "texts": {"prompt": "q", "chosen": "good", "rejected": "bad one"},
    "messages": {"messages": talk("q"), "chosen": talk("", "good")[1:], "rejected": talk("", "bad one")[1:]},
    "whole conversations": {"chosen": talk("q", "good"), "rejected": talk("q", "bad one")},
    "rejected_response": {"messages": talk("q", "good"), "rejected_response": "bad one"},
    "rejected_messages": {"messages": talk("q", "good"), "rejected_messages": talk("q", "bad one")},
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_pair_is_two_sequences_the_chosen_one_first(row: dict[str, Any], kind: str):
    made = encoded(preference(row), kind)
    assert isinstance(made, list)
    assert [sequence.values for sequence in made] == [{"chosen": 1.0}, {"chosen": 0.0}]
    assert [trained_text(sequence, kind) for sequence in made] == [[f"good{END}"], [f"bad one{END}"]]
    for sequence, answer in zip(made, ("good", "bad one"), strict=True):
        whole = KINDS[kind].apply_chat_template(talk("q", answer), tokenize=False)
        assert sequence.text.rstrip() == whole.rstrip()


def test_only_what_differs_is_trained():
    """Turns that both share are context, whatever rules and rows say."""
    shared = talk("q", "same", "and then?")
    row = {"chosen": [*shared, *talk("", "good")[1:]], "rejected": [*shared, *talk("", "bad")[1:]]}
    for names in (["default"], ["all"]):
        made = encoded(preference(row), names=names)
        assert isinstance(made, list)
        assert ["".join(trained_text(one)).rstrip() for one in made] == [f"good{END}", f"bad{END}"]
    parting = {"chosen": talk("q", "one", "more", "good"), "rejected": talk("q", "two", "more", "bad")}
    made = encoded(preference(parting))
    assert isinstance(made, list) and len(made) == 2
    assert [trained_text(sequence) for sequence in made] == [[f"one{END}", f"good{END}"], [f"two{END}", f"bad{END}"]]
    made = encoded(preference(parting), turns="last")
    assert isinstance(made, list)
    assert [trained_text(sequence) for sequence in made] == [[f"good{END}"], [f"bad{END}"]]


def test_one_conversation_that_goes_on_where_the_other_ends():
    row = {"chosen": talk("q", "good"), "rejected": talk("q", "good", "and?", "bad")}
    made = encoded(preference(row))
    assert isinstance(made, list)
    assert [trained_text(sequence) for sequence in made] == [[f"good{END}"], [f"good{END}", f"bad{END}"]]


def test_an_answer_that_would_take_several_sequences_is_dropped_and_said():
    think = "<think>\nhm\n</think>\n\n"
    parting = {"chosen": talk("q", f"{think}one", "more", "good"), "rejected": talk("q", f"{think}two", "more", "bad")}
    made = encoded(preference(parting), "thinker")
    assert isinstance(made, Dropped) and "several sequences" in made.reason
    made = encoded(preference(parting), "thinker", turns="last")
    assert isinstance(made, list) and len(made) == 2


def test_pairs_with_different_questions_are_told():
    coder = Encoder(KINDS["chatml"], Template(), rules.load(["default"]), rows="pairs")
    coder.encode(preference({"chosen": talk("q", "good"), "rejected": talk("other", "bad")}))
    coder.encode(preference({"chosen": talk("q", "good"), "rejected": talk("q", "bad")}))
    assert coder.notes["pairs whose answers come after different prompts"] == 1


@pytest.mark.parametrize("long", ["chosen", "rejected"])
def test_both_are_dropped_where_one_does_not_fit(long: str):
    row = {"prompt": "q", "chosen": "good", "rejected": "bad", long: "word " * 100}
    made = encoded(preference(row), length=80)
    assert isinstance(made, Dropped) and made.reason == "longer than max_length"
    made = encoded(preference(row), length=80, overlong="truncate_right")
    assert isinstance(made, list)
    assert max(len(sequence.input_ids) for sequence in made) == 80 and len(made) == 2


def test_both_are_dropped_where_truncation_leaves_one_without_its_answer():
    row = {"prompt": "q " * 100, "chosen": "good", "rejected": "bad"}
    made = encoded(preference(row), length=60, overlong="truncate_right")
    assert isinstance(made, Dropped) and "within max_length" in made.reason


@pytest.mark.parametrize("label", [True, False])
def test_a_labelled_answer_is_one_sequence_with_its_label(label: bool):
    row = {"messages": talk("q", "before", "and?", "this one"), "label": label}
    made = encoded(kto(row), rows="labels")
    assert isinstance(made, list) and len(made) == 1
    assert made[0].values == {"desirable": float(label)}
    assert trained_text(made[0]) == [f"this one{END}"]


def test_rows_without_a_judgement_are_dropped():
    plain = Example((Message("user", "q"), Message("assistant", "a")), "f", 3)
    assert encoded(plain) == Dropped("f", 3, "it has no rejected answer beside the chosen one")
    assert encoded(plain, rows="labels") == Dropped("f", 3, "it has no label, true or false")


def test_conversations_are_read_as_before():
    """The better answer of a pair can be learned by sft, and nothing is known of its sequence."""
    made = encoded(preference(ROWS["texts"]), rows="conversations")
    assert isinstance(made, list) and [trained_text(one) for one in made] == [[f"good{END}"]]
    assert made[0].values == {}


@pytest.mark.parametrize("processes", [1, 2])
def test_through_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int):
    """What is known of a sequence is kept; the same rows read otherwise are another entry."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUNNER_CACHE", str(tmp_path / ".cache"))
    monkeypatch.setattr("runner.data.pieces.SIZE", 4)
    write(tmp_path / "a.jsonl", [{"prompt": f"q{n}", "chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(20)])
    given = build(Mix, {"datasets": ["a.jsonl"], "validation": {"rows": 2}}, "mix")

    def read(rows: Any) -> Any:
        reading = Reading(Template(), ["default"], 100, rows=rows)
        return prepare(
            KINDS["chatml"], given, reading, seed=1, hub="modelscope", places=[package_root()], max_dropped=1.0,
            processes=processes,
        )  # fmt: skip

    for cached in (False, True):
        made = read("pairs")
        assert made.cached is cached
        assert [sequence.values["chosen"] for sequence in made.train.sequences] == [1.0, 0.0] * 18
        assert made.train.rows == [row for row in range(18) for _ in range(2)]
        assert len(made.validation.sequences) == 4
    assert len(read("conversations").train.sequences) == 18


def test_an_answer_that_is_labelled_as_bad_is_not_taught():
    """Supervised training learned it like a good one, without a word."""
    bad = encoded(kto({"query": "q", "response": "no", "label": False}), rows="conversations")
    assert isinstance(bad, Dropped) and bad.reason == "its label says that the answer is a bad one"
    assert isinstance(encoded(kto({"query": "q", "response": "r", "label": True}), rows="conversations"), list)
