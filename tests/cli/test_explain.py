"""Each value with who set it."""

import pytest

from runner.core.places import package_root
from runner.core.registry import load
from runner.core.schema import defaults, hints, key_paths
from runner.core.specs import Recipe
from runner.plan import fill

RECIPE = """\
# Interpolations and short forms.
name: mine
model: some/model
epochs: 3
seed: ${epochs}
mix:
  datasets:
    - a.jsonl
    - {dataset: b.jsonl, take: 3}
optim: {lr: 1e-4}
stages:
  first:
    kind: echo
    words: ${name}!
    optim: {warmup: 0.5}
"""


@pytest.fixture
def lines(project):
    """`explain recipe=mine WORDS` as {key: rest of the line}, hops joined."""
    project.recipe(RECIPE)
    project.write("conf/train_type/wide.yaml", "# wide\nkind: lora\nlora: {rank: 64}\n")
    project.write("plugins/rewards/short.py", "def short(completions): ...\n")

    def call(*words: str) -> dict[str, str]:
        code, out, told = project.call("explain", "recipe=mine", *words)
        assert (code, told) == (0, "")
        found: dict[str, str] = {}
        for line in out.splitlines():
            if line.startswith(" "):
                found[last] += " <- " + " ".join(line.split())  # noqa: F821 - a hop never comes first
            else:
                last, *rest = line.split()
                found[last] = " ".join(rest)
        return found

    return call


@pytest.mark.parametrize(
    ("words", "key", "said"),
    [
        ("", "model.id", "some/model recipes/mine.yaml:3"),
        ("", "model.revision", "null default"),
        ("", "epochs", "3 recipes/mine.yaml:4"),
        ("", "seed", "3 recipes/mine.yaml:5 (${epochs}) <- ${epochs} = 3 recipes/mine.yaml:4"),
        ("", "output_dir", "outputs/mine default (outputs/${name}) <- ${name} = mine recipes/mine.yaml:2"),
        ("epochs=4", "seed", "4 recipes/mine.yaml:5 (${epochs}) <- ${epochs} = 4 command line: epochs=4"),
        ("", "mix.datasets.0", "a.jsonl recipes/mine.yaml:8"),
        ("", "mix.datasets.1.take", "3 recipes/mine.yaml:9"),
        ("", "optim.lr", "0.0001 recipes/mine.yaml:10"),
        ("", "optim.schedule", "cosine default"),
        ("optim.lr=1", "optim.lr", "1 command line: optim.lr=1"),
        ("optim.lr=1 optim.lr=2", "optim.lr", "2 command line: optim.lr=2"),
        ("optim={lr:5}", "optim.lr", "5 command line: optim={lr:5}"),
        ("optim={lr:5}", "optim.schedule", "cosine default"),
        ("train_type=wide", "train_type.lora.rank", "64 conf/train_type/wide.yaml:3"),
        ("train_type=wide train_type.lora.rank=2", "train_type.lora.rank", "2 command line: train_type.lora.rank=2"),
        ("reward=[short]", "reward.short", "{} plugins/rewards/short.py"),
        ("model=x/y", "model.id", "x/y command line: model.id=x/y"),
    ],
)  # fmt: skip
def test_every_value_has_its_origin(lines, words: str, key: str, said: str) -> None:
    """File and line, the override, or the default; interpolations as two hops."""
    assert lines(*words.split())[key] == said


def test_keys_are_chosen_with_all_below_them(lines) -> None:
    """A stage's inherited layers among them."""
    shown = lines("stages.first.optim", "seed")
    assert shown["stages.first.optim.warmup"] == "0.5 recipes/mine.yaml:15"
    assert shown["stages.first.optim.lr"] == "0.0001 recipes/mine.yaml:10 (from optim.lr)"
    assert all(key == "seed" or key.startswith("stages.first.optim.") for key in shown)


def test_every_key_of_the_schema_is_explained(lines) -> None:
    """Nothing is left out."""
    shown = lines()
    for key in key_paths(Recipe):
        assert any(line == key or line.startswith(key + ".") for line in shown), key


def test_a_key_that_is_not_there(project) -> None:
    """With the nearest one, or the place where it does exist."""
    assert project.call("explain", "recipe=two", "optim.lrr")[::2] == (
        2, "command line: optim.lrr: no such key. Did you mean optim.lr?\n")  # fmt: skip
    assert (
        project.call("explain", "recipe=two", "rank")[2]
        == "command line: rank: no such key. It exists as train_type.lora.rank.\n"
    )


def test_what_a_stage_takes_stands_in_the_order_of_its_keys() -> None:
    """It was the order of a set, another one each time: explain's, and job.yaml's."""
    layers, kind = defaults(Recipe), load("stages", "sft", [package_root()], "kind")
    assert list(fill(layers, {"kind": "sft"}, kind)) == [name for name in hints(kind) if name in layers]
