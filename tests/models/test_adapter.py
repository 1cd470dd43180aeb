"""An adapter that is not whole, or is told wrongly, is refused; one that is written names the state of its base."""

import json
from pathlib import Path
from typing import Any

import pytest

from runner.core.errors import ModelError
from runner.core.specs import Model
from runner.models.load import load_model, load_tokenizer
from runner.models.locate import locate
from runner.models.tune import tune
from runner.training.write_model import write_model
from tests.models.test_load import LORA, edit, load, saved_adapter
from tests.tiny import tiny_model


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny chat model."""
    return tiny_model(tmp_path_factory.mktemp("models") / "base")


def spoilt(weights: Any) -> dict[str, Any]:
    """By what is done to an adapter's weights: the weights then."""
    return {
        "gone": {},
        "half": {name: part for name, part in weights.items() if "layers.0" in name},
        "renamed": {name.removeprefix("base_model.model."): part for name, part in weights.items()},
    }


@pytest.mark.parametrize("what", ["gone", "half", "renamed"])
def test_an_adapter_without_some_of_its_weights(base: Path, tmp_path: Path, what: str) -> None:
    """peft would start them anew: an adapter that does nothing."""
    from safetensors.torch import load_file, save_file

    adapter = saved_adapter(base, tmp_path / "adapter")
    file = adapter / "adapter_model.safetensors"
    save_file(spoilt(load_file(file))[what], file)
    with pytest.raises(ModelError, match=r"adapter: \d+ weights are named by .* not in .*, for example .*lora_"):
        load(adapter)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"target_modules": ["q_proj"]}, r"24 weights in .* are not named by .*, for example .*lora_A"),
        ({"rank_pattern": {"q_proj": 2}}, r"are of different adapters: size mismatch for .*q_proj"),
        ({"r": "four"}, r"cannot be put on its base: '<=' not supported"),
        ({"peft_type": "NOPE"}, r"cannot be put on its base: KeyError 'NOPE'"),
        ({"modules_to_save": ["norm"]}, r"cannot be put on its base: KeyError"),
    ],
)
def test_an_adapter_whose_config_is_of_another(base: Path, tmp_path: Path, keys: dict[str, Any], told: str) -> None:
    adapter = saved_adapter(base, tmp_path / "adapter")
    edit(adapter / "adapter_config.json", **keys)
    with pytest.raises(ModelError, match=f"adapter: .*{told}"):
        load(adapter)


def test_an_adapter_that_is_not_of_low_rank_does_not_go_on(base: Path, tmp_path: Path) -> None:
    from peft import IA3Config, get_peft_model

    kind = IA3Config(task_type="CAUSAL_LM", target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"])
    get_peft_model(load(base), kind).save_pretrained(tmp_path / "adapter")
    with pytest.raises(ModelError, match=r"train_type.kind: lora, and the adapter is of another kind, .*IA3. Merge"):
        tune(load(tmp_path / "adapter"), LORA)


def test_an_adapter_asks_for_the_revision_that_it_was_trained_on(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str | None]] = []

    def download(name: str, revision: str | None, hub: str, **_: Any) -> Path:
        asked.append((name, revision))
        return base

    monkeypatch.setattr("runner.models.hub.download", download)
    pinned = locate(Model(id="org/base", revision="v2"), "huggingface")
    made = tune(load_model(pinned, Model(id="org/base")), LORA)
    folder = write_model(made, load_tokenizer(pinned), tmp_path)
    again = locate(Model(id=str(folder)), "huggingface")
    assert asked == [("org/base", "v2")] * 2
    on = write_model(tune(load_model(again, Model(id=str(folder))), LORA), load_tokenizer(again), tmp_path / "on")
    assert json.loads((on / "adapter_config.json").read_text())["revision"] == "v2"
