"""Other tools' names for keys lead to keys that are there."""

import re

import pytest

from runner.cli.mistakes import key_hint
from runner.core import elsewhere
from runner.core.places import package_root
from runner.core.registry import load
from runner.core.schema import hints, key_paths, open_keys
from runner.core.specs import Recipe

KNOWN = set(key_paths(Recipe))
TRAIN = {key for kind in ("grpo", "ppo", "dpo") for key in hints(load("stages", kind, [package_root()], "kind"))}


def there(key: str) -> bool:
    head, _, last = key.rpartition(".")
    if head.startswith("stages."):
        kind = head.removeprefix("stages.")
        return last in (TRAIN | {"kind"} if kind == "train" else hints(load("stages", kind, [package_root()], "kind")))
    return key in KNOWN or head in open_keys(Recipe) or key in ("recipe", "reward.NAME.weight")


@pytest.mark.parametrize("name", elsewhere.NAMES)
def test_leads_to_a_key_that_is_there(name: str) -> None:
    said = elsewhere.told(name, KNOWN)
    keys = re.findall(r"([\w.]+)=", said) or re.findall(r"^(?:It is )?([\w.]+)(?: here| is|,)", said)
    assert all(there(key) for key in keys), said
    assert name not in hints(Recipe)


def test_a_stage_is_told_its_own_copy_and_no_layer_that_it_lacks() -> None:
    assert elsewhere.told("learning_rate", ["optim.lr"], "stages.a") == "It is stages.a.optim.lr here."
    assert elsewhere.told("lora_rank", ["optim.lr"], "stages.a") == ""
    assert elsewhere.told("nothing", KNOWN) == ""


@pytest.mark.parametrize("word", ["adapter", "chat_template", "do_sample", "eval_dataset", "max_samples", "streaming"])
def test_a_name_near_another_key_is_told_by_what_it_means(word: str) -> None:
    """Each lies near a key of ours that means something else: streaming and sampling."""
    assert key_hint(word) == elsewhere.told(word, KNOWN) != ""


def test_words_of_a_file_with_dashes_are_the_same_words() -> None:
    assert elsewhere.told("optim.Learning-Rate", KNOWN) == "It is optim.lr here."
