"""An adapter and its base become one model that says the same, or the stage fails."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from runner.core.errors import ConfigError, ModelError, StageError
from runner.core.job import Job
from runner.core.specs import Lora, Model, TrainType
from runner.models.load import load_model, load_tokenizer
from runner.models.locate import locate
from runner.models.tune import tune
from runner.stages.merge import Merge
from tests.tiny import tiny_model


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny chat model."""
    return tiny_model(tmp_path_factory.mktemp("models") / "base", family="qwen3", kind="thinker")


def adapter_of(base: Path, folder: Path, **lora: Any) -> Path:
    """An adapter that changes what the model says."""
    import torch

    model = Model(id=str(base))
    made = tune(load_model(locate(model, ""), model), TrainType(kind="lora", lora=Lora(rank=4, alpha=8, **lora)))
    torch.manual_seed(1)
    for name, weight in made.named_parameters():
        if ".lora_B." in name or ".lora_embedding_A." in name:
            torch.nn.init.normal_(weight, std=0.2)
    made.save_pretrained(folder)
    return folder


def merge(model: Model, folder: Path) -> Any:
    """Run the stage in a folder."""
    folder.mkdir()
    return Merge(model=model).run(Job(name="merge", folder=folder, run=folder))


def test_merged_model_says_what_the_adapter_said(base: Path, tmp_path: Path) -> None:
    import torch

    adapter = Model(id=str(adapter_of(base, tmp_path / "adapter")))
    made = merge(adapter, tmp_path / "merge")
    assert made.kind == "model" and made.metrics["same_next_token"] > 0.99
    assert made.metrics["difference"] < 1e-4 < 0.1 < made.metrics["adapter_difference"]
    merged, ids = Model(id=made.path), torch.tensor([[5, 6, 7, 8, 9]])
    with torch.no_grad():
        one, other = (load_model(locate(model, ""), model)(ids).logits for model in (adapter, merged))
    assert torch.allclose(one, other, atol=1e-4)
    names = {file.name for file in Path(made.path).iterdir()}
    assert {"model.safetensors", "config.json", "generation_config.json", "chat_template.jinja"} <= names
    assert "adapter_config.json" not in names
    before, after = (load_tokenizer(locate(model, "")) for model in (adapter, merged))
    assert before.chat_template == after.chat_template and before.get_vocab() == after.get_vocab()


def test_a_base_and_a_result_in_several_shards(base: Path, tmp_path: Path) -> None:
    import torch

    sharded, model = tmp_path / "sharded", Model(id=str(base))
    load_model(locate(model, ""), model).save_pretrained(sharded, max_shard_size="30KB")
    load_tokenizer(locate(model, "")).save_pretrained(sharded)
    assert len(list(sharded.glob("*.safetensors"))) > 1
    adapter = Model(id=str(adapter_of(sharded, tmp_path / "adapter")))
    folder = tmp_path / "merge"
    folder.mkdir()
    made = Merge(model=adapter, max_shard_size="30KB").run(Job(name="merge", folder=folder, run=folder))
    index = json.loads((Path(made.path) / "model.safetensors.index.json").read_text())
    files = {file.name: file.stat().st_size for file in Path(made.path).glob("*.safetensors")}
    assert set(index["weight_map"].values()) == set(files) and len(files) > 1
    merged, ids = Model(id=made.path), torch.tensor([[5, 6, 7, 8, 9]])
    with torch.no_grad():
        one, other = (load_model(locate(one, ""), one)(ids).logits for one in (adapter, merged))
    assert torch.allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("size", ["5", "0GB", "5 GB", "-1GB", "five"])
def test_a_size_of_shards_that_is_none_is_told_when_planning(base: Path, size: str) -> None:
    with pytest.raises(ConfigError, match=r"stages\.merge\.max_shard_size: .* is no size.*5GB"):
        Merge(model=Model(id=str(base)), max_shard_size=size).check((), "stages.merge")


def test_result_keeps_the_type_of_the_bases_weights(base: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    half = tmp_path / "half"
    AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).save_pretrained(half)
    for file in base.iterdir():
        if not (half / file.name).exists():
            shutil.copy(file, half)
    adapter = adapter_of(half, tmp_path / "adapter")
    made = merge(Model(id=str(adapter)), tmp_path / "merge")
    assert json.loads((Path(made.path) / "config.json").read_text())["dtype"] == "bfloat16"
    made = merge(Model(id=str(adapter), dtype="float32"), tmp_path / "wide")
    assert json.loads((Path(made.path) / "config.json").read_text())["dtype"] == "float32"


@pytest.mark.parametrize(("gpu", "taken"), [(True, "float32"), (False, "auto")])
def test_weights_of_float32_are_not_added_in_bfloat16(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: bool, taken: str
) -> None:
    """On a GPU, where auto means bfloat16."""
    import torch

    from runner.models import load

    told = list[str]()

    def loaded(located: Any, model: Model) -> Any:
        told.append(model.dtype)
        with monkeypatch.context() as here:
            here.setattr(torch.cuda, "is_available", lambda: False)
            return load_model(located, model)

    adapter = Model(id=str(adapter_of(base, tmp_path / "adapter")))
    monkeypatch.setattr(load, "load_model", loaded)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    merge(adapter, tmp_path / "out")
    assert told == [taken, taken]


def test_merge_that_loses_the_adapter_fails(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from peft.tuners.lora import LoraModel

    adapter = adapter_of(base, tmp_path / "adapter")
    monkeypatch.setattr(LoraModel, "merge_and_unload", lambda self: self.unload())
    with pytest.raises(StageError, match=r"does not answer as the adapter did: same next token at .*Nothing is kept"):
        merge(Model(id=str(adapter)), tmp_path / "merge")
    assert not (tmp_path / "merge" / "model").exists()


@pytest.mark.parametrize("named", ["lm_head", "embed_tokens"])
def test_embeddings_that_are_the_output_layer_too_are_merged(base: Path, tmp_path: Path, named: str) -> None:
    import torch

    model = Model(id=str(base))
    kind = TrainType(kind="lora", lora=Lora(rank=4, alpha=8, modules_to_save=[named]))
    made = tune(load_model(locate(model, ""), model), kind)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if ".modules_to_save." in name:
                weight.add_(torch.randn_like(weight))
    made.save_pretrained(tmp_path / "adapter")
    merged = merge(Model(id=str(tmp_path / "adapter")), tmp_path / "merge")
    assert merged.metrics["difference"] < 1e-3 < 0.1 < merged.metrics["adapter_difference"]


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")  # peft, where each learns for itself
@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`")
@pytest.mark.parametrize(
    ("targets", "tied"),
    [(["q_proj", "lm_head"], True), (["q_proj", "embed_tokens"], True), (".*(q_proj|lm_head)", False)],
)
def test_an_adapter_on_embeddings_that_are_the_output_layer_too_is_merged(
    base: Path, tmp_path: Path, targets: Any, tied: bool
) -> None:
    """Each gets what was learned for it, once; they stay one weight where what was learned is the same."""
    import torch

    adapter = adapter_of(base, tmp_path / "adapter", targets=targets)
    made = merge(Model(id=str(adapter)), tmp_path / "merge")
    assert made.metrics["difference"] < 1e-4 < 0.1 < made.metrics["adapter_difference"]
    model = load_model(locate(Model(id=made.path), ""), Model(id=made.path))
    inside, outside = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    assert model.config.tie_word_embeddings == tied == torch.equal(inside, outside)


def test_whole_models_have_nothing_to_merge(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is a whole model: nothing to merge. Use it as it is"):
        merge(Model(id=str(base)), tmp_path / "merge")
    with pytest.raises(ConfigError, match=r"stages.merge.model.id: .* is a whole model: nothing to merge"):
        Merge(model=Model(id=str(base))).check((), "stages.merge")
    with pytest.raises(ConfigError, match=r"stages.merge.model.id: no folder './no'"):
        Merge(model=Model(id="./no")).check((), "stages.merge")
