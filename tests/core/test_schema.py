"""The schema of every layer: a table of wrong values, each with its sentence, and the views of a component."""

import math
from dataclasses import FrozenInstanceError, field
from typing import Annotated, Any, Literal

import pytest

from runner.core.errors import ConfigError
from runner.core.schema import (
    EXECUTION,
    build,
    component,
    defaults,
    execution_keys,
    identity,
    key_paths,
    open_keys,
    plain,
)
from runner.core.specs import Batch, Model, Recipe, Sampling

LEAST: dict[str, Any] = {"name": "x", "model": {"id": "some/model"}}
MODEL_KEYS = "Its keys: id, revision, dtype, attention, compile, adapter, trust_remote_code."

WRONG: list[tuple[dict[str, Any], str]] = [
    # keys that are not there, at every depth
    ({"optm": {}}, "optm: no such key (value {}). Did you mean optim?"),
    ({"optim": {"lrr": 1}}, "optim.lrr: no such key (value 1). Did you mean optim.lr?"),
    ({"rank": 8}, "rank: no such key (value 8). It exists as train_type.lora.rank."),
    (
        {"train_type": {"lora": {"r": 8}}},
        "train_type.lora.r: no such key (value 8). It is train_type.lora.rank here.",
    ),
    (
        {"mix": {"datasets": ["a", {"dataset": "b", "tak": 5}]}},
        "mix.datasets.1.tak: no such key (value 5). Did you mean mix.datasets.1.take?",
    ),
    ({"reward": {"r": {"wieght": 1}}}, "reward.r.wieght: no such key (value 1). Did you mean reward.r.weight?"),
    # values of another type; nothing is converted
    ({"optim": {"lr": "abc"}}, "optim.lr: should be a number, not 'abc'."),
    ({"optim": {"lr": "1e-4"}}, "optim.lr: should be a number, not '1e-4'."),
    ({"optim": {"lr": True}}, "optim.lr: should be a number, not true."),
    ({"optim": {"lr": [1, 2]}}, "optim.lr: should be a number, not [1, 2]."),
    ({"optim": {"betas": 0.9}}, "optim.betas: should be a list, not 0.9."),
    ({"seed": 1.5}, "seed: should be a whole number, not 1.5."),
    ({"seed": "1"}, "seed: should be a whole number, not '1'."),
    ({"seed": None}, "seed: should be a whole number, not null."),
    ({"train_type": {"lora": {"rank": 8.5}}}, "train_type.lora.rank: should be a whole number, not 8.5."),
    ({"train_type": {"lora": {"dora": "yes"}}}, "train_type.lora.dora: should be true or false, not 'yes'."),
    ({"model": "some/model"}, f"model: should be a mapping, not 'some/model'. {MODEL_KEYS}"),
    ({"model": None}, f"model: should be a mapping, not null. {MODEL_KEYS}"),
    ({"model": {"id": 5}}, "model.id: should be text, not 5."),
    ({"sampling": {"stop": "x"}}, "sampling.stop: should be a list, not 'x'. Write [x]."),
    ({"mix": {"datasets": "a"}}, "mix.datasets: should be a list, not 'a'. Write [a]."),
    ({"mix": {"datasets": [5]}}, "mix.datasets.0: should be text or a mapping, not 5."),
    ({"mix": {"datasets": [{"dataset": "b", "take": "5"}]}}, "mix.datasets.0.take: should be a whole number, not '5'."),
    (
        {"mix": {"variables": {"NAME": 5}}},
        "mix.variables.NAME: should be text or a list or a mapping, not 5.",
    ),
    ({"loss_scale": "all"}, "loss_scale: should be a list or a mapping, not 'all'. Write [all]."),
    ({"reward": ["r"]}, "reward: should be a mapping, not ['r']."),
    ({"stages": {"a": 5}}, "stages.a: should be a mapping, not 5."),
    # out of range
    ({"optim": {"lr": 0}}, "optim.lr: should be greater than 0, not 0."),
    ({"optim": {"lr": -1.0}}, "optim.lr: should be greater than 0, not -1.0."),
    ({"optim": {"lr": math.inf}}, "optim.lr: should be a finite number, not inf."),
    ({"optim": {"weight_decay": math.nan}}, "optim.weight_decay: should be a finite number, not nan."),
    ({"optim": {"betas": [0.9, 1.0]}}, "optim.betas.1: should be less than 1, not 1.0."),
    ({"batch": {"rows": 0}}, "batch.rows: should be at least 1, not 0."),
    (
        {"batch": {"rows": 16, "packs": 4}},
        "batch: should say only one of rows, packs and tokens (the others null), not {'rows': 16, 'packs': 4}.",
    ),
    (
        {"batch": {"tokens_per_device": 0}},
        "batch.tokens_per_device: should be 'auto' or at least 1, not 0.",
    ),
    ({"mix": {"validation": {"fraction": 1.0}}}, "mix.validation.fraction: should be less than 1, not 1.0."),
    ({"data": {"max_dropped": 2}}, "data.max_dropped: should be at most 1, not 2."),
    ({"epochs": 0}, "epochs: should be greater than 0, not 0."),
    ({"max_updates": -1}, "max_updates: should be at least 1, not -1."),
    # words that are no choice
    ({"hub": "hf"}, "hub: should be 'modelscope' or 'huggingface', not 'hf'."),
    ({"template": {"thinking": "maybe"}}, "template.thinking: should be 'auto', 'on' or 'off', not 'maybe'."),
    (
        {"train_type": {"kind": "lorra"}},
        "train_type.kind: should be 'lora', 'full', 'freeze' or 'qlora', not 'lorra'. Did you mean lora?",
    ),
    (
        {"log": {"trackers": ["tensorbord"]}},
        "log.trackers.0: should be 'tensorboard', 'trackio', 'mlflow', 'wandb' or 'swanlab', not 'tensorbord'. "
        "Did you mean tensorboard?",
    ),
    # empty and missing
    ({"name": ""}, "name: empty. Give it a value, or leave the key out."),
    ({"optim": {"lr": ""}}, "optim.lr: empty. Give it a value, or leave the key out."),
    ({"model": {"id": ""}}, "model.id: empty. Give it a value, or leave the key out."),
    ({"sampling": {"stop": [""]}}, "sampling.stop.0: empty. Give it a value, or leave the key out."),
    ({"seed": -1}, "seed: should be at least 0, not -1."),
    ({"seed": 2**31}, "seed: should be at most 2147483647, not 2147483648."),
    ({"sampling": {"seed": -1}}, "sampling.seed: should be at least 0, not -1."),
    ({"name": "???"}, "name: missing. Give it a value: name=..."),
    ({"model": {"id": "???"}}, "model.id: missing. Give it a value: model.id=..."),
    (
        {"mix": {"datasets": [{"take": 3}]}},
        "mix.datasets.0.dataset: missing. Give it a value: mix.datasets.0.dataset=...",
    ),
]


@pytest.mark.parametrize(("values", "sentence"), WRONG, ids=[sentence.split(" ")[0] for _, sentence in WRONG])
def test_a_wrong_value_is_refused_in_one_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        build(Recipe, LEAST | values)
    assert str(refused.value) == sentence


def test_of_several_mistakes_the_unknown_key_is_told() -> None:
    """A key that nobody knows explains most of what follows."""
    with pytest.raises(ConfigError, match=r"^optim\.lrr: no such key"):
        build(Recipe, {"seed": "x", "optim": {"lrr": 1}})


def test_the_key_of_the_mapping_stands_in_front() -> None:
    with pytest.raises(
        ConfigError, match=r"^stages\.train\.batch\.row: no such key .* mean stages\.train\.batch\.rows\?"
    ):
        build(Batch, {"row": 1}, "stages.train.batch")


def test_yaml_switches_are_the_words_they_were() -> None:
    """YAML 1.1 reads on and off as booleans; where they are the choices they mean the words."""
    for given, meant in ((True, "on"), (False, "off"), ("auto", "auto")):
        assert build(Recipe, LEAST | {"template": {"thinking": given}}).template.thinking == meant


@component
class Inner:
    """Two keys, one of them about execution."""

    size: int = 1
    speed: Annotated[int, EXECUTION] = 2


@component
class Outer:
    """A component within a component."""

    word: str
    inner: Inner
    many: list[Inner] = field(default_factory=list)
    names: dict[str, Inner] | None = None
    kind: Literal["a", "b"] = "a"
    pace: Annotated[str, EXECUTION] = "fast"


GIVEN = {"word": "w", "inner": {"size": 5}, "many": [{"speed": 7}], "names": {"own": {"size": 3}}}


def test_a_component_is_made_whole_and_cannot_change() -> None:
    made = build(Outer, GIVEN)
    assert made == Outer(word="w", inner=Inner(size=5), many=[Inner(speed=7)], names={"own": Inner(size=3)})
    with pytest.raises(FrozenInstanceError):
        made.word = "other"  # type: ignore[misc]


def test_plain_and_back() -> None:
    made = build(Outer, GIVEN)
    assert build(Outer, plain(made)) == made
    assert plain(made)["names"] == {"own": {"size": 3, "speed": 2}}


def test_identity_leaves_out_what_is_execution_only_at_every_depth() -> None:
    assert identity(build(Outer, GIVEN)) == {
        "word": "w",
        "inner": {"size": 5},
        "many": [{"size": 1}],
        "names": {"own": {"size": 3}},
        "kind": "a",
    }


def test_the_keys_of_a_component() -> None:
    assert list(key_paths(Outer)) == ["word", "inner", "inner.size", "inner.speed", "many", "names", "kind", "pace"]
    assert list(execution_keys(Outer)) == ["inner.speed", "pace"]
    assert list(open_keys(Outer)) == ["names"]


def test_defaults_name_what_must_be_given() -> None:
    assert defaults(Outer) == {
        "word": "???",
        "inner": {"size": 1, "speed": 2},
        "many": [],
        "names": None,
        "kind": "a",
        "pace": "fast",
    }


def test_every_default_of_a_recipe_fits_its_own_key() -> None:
    made = build(Recipe, LEAST)
    assert build(Recipe, plain(made)) == made
    assert [key for key, value in defaults(Recipe).items() if value == "???"] == ["name"]


def test_a_mistake_between_keys_shows_what_was_said_and_no_defaults() -> None:
    """A stage's layer comes with all of its keys."""
    whole = plain(Sampling()) | {"n": 3, "temperature": 0}
    with pytest.raises(ConfigError, match=r"all the same, not \{'temperature': 0, 'n': 3\}"):
        build(Sampling, whole, "sampling")
    whole = plain(Recipe(name="x", model=Model(id="m")))
    whole["batch"] |= {"rows": 4, "packs": 2}
    with pytest.raises(ConfigError, match=r"^batch: .* \(the others null\), not \{'rows': 4, 'packs': 2\}"):
        build(Recipe, whole, "")
