"""Shipped recipes on a GPU, shortened, with a small Qwen3 of random weights: trained packed, merged, asked."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gpu.test_vllm import ENGINE
from tests.tiny import tiny_tokenizer

pytestmark = pytest.mark.gpu


def row(number: int) -> dict[str, list[dict[str, str]]]:
    """A question and an answer of a length of its own."""
    answer = "I am {{NAME}}. " * (number % 9 + 1)
    return {"messages": [{"role": "user", "content": f"who? {number}"}, {"role": "assistant", "content": answer}]}


def furnished(place: Path) -> Path:
    """A user's folder with a model and data."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = tiny_tokenizer("thinker")
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=256, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=64, tie_word_embeddings=True, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    Qwen3ForCausalLM(config).save_pretrained(place / "model")
    tokenizer.save_pretrained(place / "model")
    (place / "rows.jsonl").write_text("".join(json.dumps(row(number)) + "\n" for number in range(64)))
    return place


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's folder."""
    return furnished(tmp_path)


def run(folder: Path, *words: str) -> str:
    """The command's output."""
    done = subprocess.run(
        [sys.executable, "-m", "runner", *words], cwd=folder, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def small_engine() -> list[str]:
    """vLLM, where it is installed, beside other programs on the GPU."""
    if not importlib.util.find_spec("vllm"):
        return []
    return ["backend=vllm", *(f"backend.engine.{name}={value}" for name, value in ENGINE.items())]


def test_qwen3_self_cognition_learns_packed_and_answers(folder: Path) -> None:
    """Twice the same command: the second reuses all."""
    words = ["+recipe=qwen3_self_cognition", "model=model", "mix.datasets=[rows.jsonl]", "output_dir=out", "epochs=3"]
    words += [
        "batch.rows=8",
        "log.every=1",
        "optim.lr=1e-2",
        "sampling.max_new_tokens=8",
        "mix.validation.fraction=0.1",
        *small_engine(),
    ]
    run(folder, *words)
    lines = [json.loads(line) for line in (folder / "out/train/metrics.jsonl").read_text().splitlines()]
    learned = [line for line in lines if "loss" in line]
    assert learned[-1]["loss"] < learned[0]["loss"] / 2
    assert all(line["padding_share"] == 0 and line["memory_gib"] > 0 for line in learned)
    assert (folder / "out/merge/artifact.json").is_file() and (folder / "out/ask/completions.jsonl").is_file()
    assert run(folder, *words).count("reused") >= 3


@pytest.mark.parametrize(
    ("recipe", "needs", "more"),
    [
        ("qwen3_full_zero3", "deepspeed", ["parallelism.gpus=1", "batch.packs=2", "max_length=256"]),
        ("qwen3_qlora", "bitsandbytes", ["batch.rows=8"]),
    ],
)
def test_recipes_for_large_models_run_shortened(folder: Path, recipe: str, needs: str, more: list[str]) -> None:
    """With their own preset and train type; what they leave answers."""
    pytest.importorskip(needs)
    words = [f"+recipe={recipe}", "model.id=model", "mix.datasets=[rows.jsonl]", "mix.variables={NAME: Ada}"]
    run(folder, *words, "output_dir=out", "log.every=1", "optim.lr=1e-3", "epochs=3", *more)
    lines = [json.loads(line) for line in (folder / "out/train/metrics.jsonl").read_text().splitlines()]
    learned = [line["loss"] for line in lines if "loss" in line]
    assert learned[-1] < learned[0] and "eval_loss" in lines[-1]
    asked = ["+recipe=infer", "model=out", "stages.infer.questions=['who? 1']", "sampling.max_new_tokens=4"]
    run(folder, *asked, *small_engine())
