"""What would train or answer wrongly without a word is refused while loading."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from runner.core.errors import ConfigError, ModelError
from runner.core.specs import Lora, Model, TrainType
from runner.models.load import load_model, load_tokenizer
from runner.models.locate import Located, locate
from runner.models.tune import tune
from runner.training.write_model import write_model
from tests.tiny import tiny_model

LORA = TrainType(kind="lora", lora=Lora(rank=4, alpha=8))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny chat model."""
    return tiny_model(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture
def copy(base: Path, tmp_path: Path) -> Path:
    """One that may be spoilt."""
    return Path(shutil.copytree(base, tmp_path / "copy"))


def load(folder: Path, **keys: Any) -> Any:
    """Locate and load."""
    model = Model(id=str(folder), **keys)
    return load_model(locate(model, "huggingface"), model)


def learning(model: Any) -> list[str]:
    """Names of the weights that learn."""
    return [name for name, weight in model.named_parameters() if weight.requires_grad]


def saved_adapter(base: Path, folder: Path, train_type: TrainType = LORA) -> Path:
    """An adapter with weights that change the model's answers."""
    import torch

    made = tune(load(base), train_type)
    torch.manual_seed(1)
    for name, weight in made.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(weight, std=0.2)
    made.save_pretrained(folder)
    return folder


def edit(file: Path, **values: Any) -> None:
    """Change keys of a JSON file."""
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_adapter_changes_answers_and_remembers_its_base(base: Path, tmp_path: Path) -> None:
    import torch

    adapter = saved_adapter(base, tmp_path / "adapter")
    assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == str(base)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        assert not torch.allclose(load(base)(ids).logits, load(adapter)(ids).logits, atol=1e-2)
    assert load_tokenizer(locate(Model(id=str(adapter)), "huggingface")).eos_token == "<|im_end|>"
    assert learning(load(adapter)) == []


def test_adapter_is_written_under_the_name_of_its_base(base: Path, tmp_path: Path) -> None:
    """While peft saves, the base's place stands there: peft would ask a hub for anything else."""
    located = Located(base, None, "org/base")
    model = tune(load_model(located, Model(id="org/base")), LORA)
    assert model.active_peft_config.base_model_name_or_path == str(base)
    folder = write_model(model, load_tokenizer(located), tmp_path)
    told = json.loads((folder / "adapter_config.json").read_text())
    assert (told["base_model_name_or_path"], told["r"]) == ("org/base", 4)


def test_adapter_of_another_base(base: Path, tmp_path: Path) -> None:
    adapter = saved_adapter(tiny_model(tmp_path / "qwen3", family="qwen3"), tmp_path / "adapter")
    other = Path(shutil.copytree(base, tmp_path / "wide"))
    edit(adapter / "adapter_config.json", base_model_name_or_path=str(other))
    load(adapter)  # the same shapes
    with pytest.raises(
        ModelError, match=r"made for another base than .*wider: .*has \d+ (inputs|outputs) in the base and \d+"
    ):
        load(_wider(tmp_path / "wider"), adapter=str(adapter))
    with pytest.raises(ModelError, match=r"the base has no layer .*Name its own base: model.id=BASE"):
        load(_gpt2(tmp_path / "gpt2", base), adapter=str(adapter))


def _wider(folder: Path) -> Path:
    from transformers import LlamaConfig, LlamaForCausalLM

    LlamaForCausalLM(
        LlamaConfig(vocab_size=420, hidden_size=96, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4)
    ).save_pretrained(folder)
    return folder


def _gpt2(folder: Path, base: Path) -> Path:
    from transformers import GPT2Config, GPT2LMHeadModel

    GPT2LMHeadModel(GPT2Config(vocab_size=420, n_embd=32, n_layer=1, n_head=2)).save_pretrained(folder)
    return folder


def test_missing_weight_is_not_filled_with_chance(copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"copy: 1 weights are missing, for example model.layers.1.mlp.up_proj.weight"):
        load(copy)


def test_weights_of_another_shape(copy: Path) -> None:
    edit(copy / "config.json", intermediate_size=96)
    with pytest.raises(
        ModelError, match=r"copy: .*(down|gate|up)_proj.weight is \d+ x \d+ in the file and \d+ x \d+ by config"
    ):
        load(copy)


def test_unreadable_folders(copy: Path) -> None:
    weights = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(weights[:5000])
    with pytest.raises(ModelError, match="copy: cannot be loaded"):
        load(copy)
    (copy / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"copy: holds no weights. Weights are read from"):
        load(copy)
    (copy / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelError, match=r"holds only pytorch_model.bin, a format that can run code"):
        load(copy)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"hidden_size": "64"}, "cannot be loaded: .*hidden_size.* expected int, got str"),
        ({"num_attention_heads": 7}, "cannot be loaded: .*hidden size .64. is not a multiple"),
        ({"num_attention_heads": 0}, "cannot be loaded: integer modulo by zero"),
        ({"hidden_act": "nope"}, "cannot be loaded: KeyError 'nope'"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "cannot be loaded: Loading a GPTQ"),
    ],
)
def test_a_config_that_no_model_is_made_of(copy: Path, keys: dict[str, Any], told: str) -> None:
    edit(copy / "config.json", **keys)
    with pytest.raises(ModelError, match=f"copy: {told}"):
        load(copy)


@pytest.mark.parametrize("text", ["{", "[]", "version https://git-lfs.github.com/spec/v1", b"\xff"])
def test_files_of_a_tokenizer_that_are_none(copy: Path, text: str | bytes) -> None:
    """Among them a tokenizers library's bare exceptions."""
    located = locate(Model(id=str(copy)), "huggingface")
    for name in ("config.json", "tokenizer_config.json", "tokenizer.json"):
        whole = (copy / name).read_bytes()
        (copy / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(ModelError, match=rf"copy(: its tokenizer cannot be read|/{name}: (is no JSON|holds list))"):
            load_tokenizer(located)
        (copy / name).write_bytes(whole)


def test_adapter_without_weights(base: Path, tmp_path: Path) -> None:
    adapter = saved_adapter(base, tmp_path / "adapter")
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"adapter: holds no adapter_model.safetensors"):
        load(adapter)


def test_code_of_the_models_own_is_not_run(copy: Path) -> None:
    (copy / "modeling_own.py").write_text("raise SystemExit('ran')")
    edit(copy / "config.json", model_type="own", auto_map={
        "AutoConfig": "modeling_own.Config", "AutoModelForCausalLM": "modeling_own.Model",
    })  # fmt: skip
    with pytest.raises(
        ModelError, match=r"brings Python code of its own. If you trust it: model.trust_remote_code=true"
    ):
        load(copy)


def test_a_tokenizers_own_code_runs_where_it_is_trusted(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nobody is asked in the middle of a run."""
    (copy / "own.py").write_text(
        "from transformers import PreTrainedTokenizerFast\nclass Own(PreTrainedTokenizerFast):\n    ran = True\n"
    )
    edit(copy / "tokenizer_config.json", tokenizer_class="Own", auto_map={"AutoTokenizer": [None, "own.Own"]})
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(copy / "cache"))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    with pytest.raises(ModelError, match=r"this tokenizer brings Python code of its own. If you trust it: model.trust"):
        load_tokenizer(locate(Model(id=str(copy)), "huggingface"))
    assert load_tokenizer(locate(Model(id=str(copy), trust_remote_code=True), "huggingface")).ran


def test_tokenizers(copy: Path) -> None:
    located = locate(Model(id=str(copy)), "huggingface")
    (copy / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="has no chat template"):
        load_tokenizer(located)
    assert load_tokenizer(located, chat=False).chat_template is None
    edit(copy / "config.json", vocab_size=100)
    with pytest.raises(ModelError, match=r"its tokenizer has ids up to \d+, the model .* has 100 embeddings"):
        load_tokenizer(located, chat=False)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (copy / name).unlink()
    with pytest.raises(ModelError, match="copy: holds no tokenizer"):
        load_tokenizer(located)


@pytest.mark.parametrize("special", [True, False])
def test_a_token_of_the_familys_other_members(copy: Path, special: bool) -> None:
    """Gemma 3's smallest model has no embedding for images, its tokenizer a token; one that may come up is refused."""
    located, token = locate(Model(id=str(copy)), "huggingface"), "<image>"
    tokenizer = load_tokenizer(located)
    tokenizer.add_tokens([token], special_tokens=special)
    tokenizer.save_pretrained(copy)
    if special:
        assert token in load_tokenizer(located).get_vocab()
        template = copy / "chat_template.jinja"
        template.write_text(template.read_text() + token)
    with pytest.raises(ModelError, match=r"its tokenizer has ids up to \d+, the model .* embeddings"):
        load_tokenizer(located)


def test_lora_learns_beside_every_linear_layer(base: Path) -> None:
    model = tune(load(base), LORA)
    names = learning(model)
    assert model.training and len(names) == 2 * 7 * 2 and all(".lora_" in name for name in names)
    assert model.active_peft_config.base_model_name_or_path == str(base)


def test_a_base_in_four_bits_keeps_its_embeddings_as_they_are(base: Path) -> None:
    """peft's preparation made float32 of embeddings and head: 5 GB of an 8B model, whose base takes 4."""
    import torch

    located = locate(Model(id=str(base)), "modelscope")
    loaded = load_model(located, Model(id=str(base), dtype="bfloat16"))
    loaded.is_loaded_in_4bit = True
    made = tune(loaded, TrainType(kind="qlora"))
    assert made.get_input_embeddings().weight.dtype == torch.bfloat16
    assert {name.split(".")[-2] for name, weight in made.named_parameters() if weight.requires_grad} == {"default"}
    assert all(weight.dtype == torch.float32 for weight in made.parameters() if weight.requires_grad)


def test_full_and_freeze(base: Path) -> None:
    model = tune(load(base), TrainType(kind="full"))
    assert len(learning(model)) == len(list(model.parameters()))
    model = tune(load(base), TrainType(kind="freeze", patterns=[r"layers\.1\.", "norm"]))
    assert "model.layers.1.mlp.up_proj.weight" in learning(model) and "model.norm.weight" in learning(model)
    assert "model.layers.0.mlp.up_proj.weight" not in learning(model)


def test_adapter_goes_on_learning(base: Path, tmp_path: Path) -> None:
    adapter = saved_adapter(base, tmp_path / "adapter")
    model = tune(load(adapter), LORA)
    assert len(learning(model)) == 28
    with pytest.raises(ConfigError, match=r"train_type.lora.rank: 8, and the adapter .* has 4"):
        tune(load(adapter), TrainType(kind="lora", lora=Lora(rank=8, alpha=8)))
    with pytest.raises(ModelError, match="full, and the model is an adapter on a base"):
        tune(load(adapter), TrainType(kind="full"))


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (
            {"targets": ["q_proj"]},
            r"targets: \['q_proj'\], and .* has \[k_proj,q_proj\]. Say .*targets=\[k_proj,q_proj\]",
        ),
        ({"targets": r".*\.layers\.0\..*_proj"}, r"targets: .* has \[k_proj,q_proj\]"),
        ({"rslora": True}, r"rslora: True, and the adapter that goes on learning has false. Say .*rslora=false"),
        ({"dropout": 0.2}, r"dropout: 0.2, and the adapter that goes on learning has 0.1. Say .*dropout=0.1"),
        ({"modules_to_save": ["lm_head"]}, r"modules_to_save: \['lm_head'\], and .* has \[norm\]"),
    ],
)
def test_an_adapter_is_not_taken_for_another(base: Path, tmp_path: Path, keys: dict[str, Any], told: str) -> None:
    """What the recipe says and the adapter is not."""
    own: dict[str, Any] = {"targets": ["q_proj", "k_proj"], "dropout": 0.1, "modules_to_save": ["norm"]}
    kind = TrainType(kind="lora", lora=Lora(rank=4, alpha=8, **own))
    adapter = saved_adapter(base, tmp_path / "adapter", kind)
    assert learning(tune(load(adapter), kind))
    same = dataclasses.replace(kind.lora, targets=r".*\.(q|k)_proj")
    assert learning(tune(load(adapter), TrainType(kind="lora", lora=same)))
    with pytest.raises(ConfigError, match=told):
        tune(load(adapter), TrainType(kind="lora", lora=Lora(rank=4, alpha=8, **{**own, **keys})))


def test_what_a_recipe_leaves_open_an_adapter_keeps(base: Path, tmp_path: Path, capsys: Any) -> None:
    own = Lora(rank=4, alpha=8, targets=["q_proj", "k_proj"], dropout=0.1, modules_to_save=["norm"], rslora=True)
    adapter = saved_adapter(base, tmp_path / "adapter", TrainType(kind="lora", lora=own))
    capsys.readouterr()
    assert learning(tune(load(adapter), LORA))
    told = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[0].removeprefix("train_type.lora.") for line in told] == [
        "dropout", "rslora", "modules_to_save", "targets",
    ]  # fmt: skip
    assert told[-1].endswith("the adapter that goes on learning keeps its own, [k_proj,q_proj]")
    tune(load(saved_adapter(base, tmp_path / "usual")), LORA)
    assert not capsys.readouterr().out


def test_an_adapter_on_layers_of_gpt2(base: Path, tmp_path: Path) -> None:
    """Its layers are Conv1D, whose weights lie the other way round; one of another size is refused there too."""
    from transformers import GPT2Config, GPT2LMHeadModel

    folders = [tmp_path / "gpt2", tmp_path / "wider"]
    for folder, width in zip(folders, (32, 48), strict=True):
        shutil.copytree(base, folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
        words = json.loads((base / "config.json").read_text())["vocab_size"]
        config = GPT2Config(vocab_size=words, n_embd=width, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2)
        GPT2LMHeadModel(config).save_pretrained(folder)
    adapter = saved_adapter(folders[0], tmp_path / "adapter")
    assert learning(tune(load(adapter), LORA))
    with pytest.raises(ModelError, match=r"c_attn has \d+ (in|out)puts in the base and \d+ in the adapter"):
        load(folders[1], adapter=str(adapter))


@pytest.mark.parametrize(
    ("train_type", "sentence"),
    [
        (TrainType(kind="freeze"), r"train_type.patterns: empty"),
        (
            TrainType(kind="freeze", patterns=["norm", "layrs"]),
            r"train_type.patterns.1: no weight is named like 'layrs'",
        ),
        (TrainType(kind="freeze", patterns=["("]), r"train_type.patterns.0: '\(' is no regular expression"),
        (
            TrainType(kind="lora", lora=Lora(targets=["c_attn"])),
            r"lora.targets: no layer .*'c_attn'.*down_proj.*q_proj.*all-linear",
        ),
    ],
)
def test_weights_that_nobody_has(base: Path, train_type: TrainType, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        tune(load(base), train_type)


def test_qlora_tells_what_it_needs(base: Path) -> None:
    model = Model(id=str(base))
    with pytest.raises(ModelError, match=r"train_type.kind: qlora needs (the package bitsandbytes|a GPU)"):
        load_model(locate(model, "huggingface"), model, TrainType(kind="qlora"))
