"""JSON schema for editors: every shipped file is valid under it, and typical mistakes are not."""

import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from runner.cli.schema import comment, schemas
from runner.core.places import package_root, roots

jsonschema = pytest.importorskip("jsonschema")
ROOT = package_root()
SHIPPED = sorted([*ROOT.glob("recipes/**/*.yaml"), *ROOT.glob("conf/**/*.yaml")])


@pytest.fixture(scope="module")
def made() -> dict[str, dict[str, Any]]:
    """All schemas of the package."""
    return schemas(roots())


def mistakes(schema: dict[str, Any], text: str) -> list[str]:
    """What a validator says of a YAML text."""
    content = OmegaConf.to_container(OmegaConf.create(text))
    return [error.message for error in jsonschema.Draft7Validator(schema).iter_errors(content)]


@pytest.mark.parametrize("file", SHIPPED, ids=[str(file.relative_to(ROOT)) for file in SHIPPED])
def test_every_shipped_file_is_valid_and_names_its_schema(made, file: Path) -> None:
    """The comment stands among the first lines and leads to where `runner schema` writes."""
    text = file.read_text(encoding="utf-8")
    line = comment(file.relative_to(ROOT))
    assert line in text.split("\n")[:4], f"{file}: add the line {line}"
    name = line.rsplit("/", 1)[-1].removesuffix(".json")
    assert (file.parent / line.split("$schema=")[1]).resolve() == ROOT / ".runner/schema" / f"{name}.json"
    assert mistakes(made[name], text) == []


@pytest.mark.parametrize("name", ["recipe", "model", "mix", "train_type", "stage", "reward"])
def test_schemas_are_schemas(made, name: str) -> None:
    """Draft 7, as editors read it."""
    jsonschema.Draft7Validator.check_schema(made[name])


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("optim: {lr: 1e-4}", True),
        ("optim: {lrr: 1e-4}", False),
        ("optm: {}", False),
        ("epochs: 0", False),
        ("epochs: ${seed}", True),
        ("epochs: three", False),
        ("seed: ???", True),
        ("model: a/b", True),
        ("model: {id: a/b, dtype: float33}", False),
        ("template: {thinking: on}", True),
        ("template: {thinking: maybe}", False),
        ("reward: [a, {b: {weight: 2}}]", True),
        ("reward: {a: {wait: 2}}", False),
        ("loss_scale: [default, last_round]", True),
        ("defaults: [{override /model: x}, _self_]", True),
        ("defaults: 3", False),
        ("hydra: {sweeper: {params: {seed: '1,2'}}}", True),
        ("mix: {datasets: [a.jsonl, {dataset: b, take: 3}]}", True),
        ("mix: {datasets: [{dataset: b, tak: 3}]}", False),
        ("on_failure: stop", True),
    ],
)
def test_recipes(made, text: str, right: bool) -> None:
    """What an editor underlines."""
    assert (mistakes(made["recipe"], text) == []) == right


@pytest.mark.parametrize(
    ("stage", "right"),
    [
        ("{kind: echo, words: hi}", True),
        ("{kind: echo, wordz: hi}", False),
        ("{kind: ecko}", False),
        ("{kind: tally, words: hi}", False),
        ("{kind: tally, model: 'stage:b'}", True),
        ("{kind: echo, optim: {lrr: 1}}", False),
        ("{words: hi}", True),
    ],
)
def test_stages_are_told_apart_by_their_kind(project, stage: str, right: bool) -> None:
    """The user's own kinds too; without a kind, which a defaults list may give, any key may stand."""
    schema = schemas(roots())["recipe"]
    assert (mistakes(schema, f"stages: {{a: {stage}}}") == []) == right


def test_the_verb_writes_them(project) -> None:
    """Under .runner/schema of the working directory, or where asked."""
    code, out, _ = project.call("schema")
    assert code == 0
    files = {Path(line) for line in out.splitlines()}
    assert Path(".runner/schema/recipe.json") in files
    assert all(json.loads(file.read_text())["$schema"] for file in files)
    assert project.call("schema", "elsewhere")[0] == 0
    assert (project.root / "elsewhere/recipe.json").is_file()


def test_it_writes_into_a_folder_and_nowhere_else(project) -> None:
    """A flag became a folder of that name."""
    project.write("rows.jsonl", "")
    for words, told in {
        ("--all",): "schema: takes no flag --all. It takes --config-dir DIR.",
        ("a", "b"): "schema: 'a b' is no folder. Write `runner schema`, or name one.",
        ("rows.jsonl",): "schema: 'rows.jsonl' is no folder. Write `runner schema`, or name one.",
    }.items():
        assert project.call("schema", *words) == (2, "", told + "\n")
    assert project.call("schema", "to")[0] == 0 and (project.root / "to/recipe.json").is_file()
