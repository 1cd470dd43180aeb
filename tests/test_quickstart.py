"""The quickstart measures something: its questions are not among what it trains on, and the base model fails them."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import yaml

from runner import plan
from runner.cli.compose import composer
from runner.core.job import Job
from runner.core.places import package_root, roots

FOLDER = package_root() / "recipes" / "quickstart"
TRAINED = ("identity.jsonl", "everyday.jsonl")
ASKED = ("identity_questions.jsonl", "general_questions.jsonl")


def rows(name: str) -> list[dict[str, Any]]:
    """The rows of a file of the quickstart."""
    return [json.loads(line) for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()]


def texts(*names: str) -> list[str]:
    """Everything that is said in some files."""
    return [message["content"] for name in names for row in rows(name) for message in row["messages"]]


def grams(text: str, size: int = 5) -> set[tuple[str, ...]]:
    """The runs of words of a text, lowercased; a shorter text is one run."""
    words = re.findall(r"[\w']+", text.lower())
    return {tuple(words[place : place + size]) for place in range(max(1, len(words) - size + 1))}


def shared(question: str, trained: list[str]) -> list[str]:
    """The trained texts that have a run of five words in common with a question, or all words of a shorter one."""
    return [text for text in trained if grams(question) & grams(text)]


def test_no_question_is_trained_on():
    trained = texts(*TRAINED)
    assert {question: found for question in texts(*ASKED) if (found := shared(question, trained))} == {}


def test_a_question_among_the_rows_would_be_noticed():
    trained = texts(*TRAINED)
    assert shared(f"So {trained[-2].lower()}", trained)
    assert shared("who is THIS", ["Who is this?"]) and not shared("Who is this?", ["And who is this man?"])


def test_rows_are_what_the_recipe_needs():
    identity, everyday = (rows(name) for name in TRAINED)
    assert len(identity) == 100 and len(everyday) >= 150
    for row in identity + everyday:
        assert [message["role"] for message in row["messages"]] == ["user", "assistant"]
    assert all("{{NAME}}" in row["messages"][1]["content"] for row in identity)
    assert sum("{{AUTHOR}}" in row["messages"][1]["content"] for row in identity) >= 50
    assert not any("{{" in text for text in texts("everyday.jsonl"))
    asked = [row["messages"][0]["content"] for row in identity + everyday]
    assert len(set(asked)) == len(asked)


def test_questions_can_be_scored():
    identity, general = (rows(name) for name in ASKED)
    assert len(identity) == len(general) == 20
    assert all(row["expected"] == "{{NAME}}" and {"SmolLM", "ChatGPT"} <= set(row["forbidden"]) for row in identity)
    assert all(row["expected"] and "forbidden" not in row for row in general)
    recipe = yaml.safe_load((FOLDER.parent / "quickstart.yaml").read_text(encoding="utf-8"))
    assert recipe["mix"]["variables"]["NAME"] not in {name for row in identity for name in row["forbidden"]}


def test_the_untrained_model_does_not_know_the_name(tmp_path: Path):
    """As the recipe's first stage asks it, the identity half alone."""
    stage = plan.make(composer(["+recipe=quickstart"]).values(), roots()).step("before").stage
    stage = dataclasses.replace(stage, prompts=[name for name in stage.prompts if "identity" in name])
    made = stage.run(Job(name="before", folder=tmp_path, run=tmp_path, roots=(package_root(),)))
    assert made.metrics["contains"] == 0.0
    said = [json.loads(line)["response"] for line in (tmp_path / "completions.jsonl").read_text().splitlines()]
    assert len(said) == 20 and all(len(text) > 3 for text in said)
