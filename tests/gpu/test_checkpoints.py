"""Checkpoints of a training on a GPU are copied through page-locked memory while the GPU goes on."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from runner.core.job import Job
from runner.core.specs import Batch, Optim, Save
from runner.training import _snapshot, checkpoints
from runner.training.settings import Settings
from tests.training import small
from tests.training.test_saving_beside import Tell, held_back

pytestmark = pytest.mark.gpu


def fit(folder: Path, told: Tell) -> Any:
    """A model whose weights are large enough for page-locked memory: eight updates, a checkpoint each third."""
    settings = Settings(lr=1e-2, optim=Optim(warmup=0.1), save=Save(every=3, keep=9))
    job = Job(name="train", folder=folder, run=folder, progress=told)
    torch.manual_seed(0)
    learner = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=small.VOCABULARY, hidden_size=512, intermediate_size=1024, num_hidden_layers=2,
            num_attention_heads=8, num_key_value_heads=8, tie_word_embeddings=True, pad_token_id=2,
        )
    )  # fmt: skip
    return small.fit(
        folder, learner, small.rows(64), batch=Batch(rows=8), budget=400, settings=settings, job=job,
    )  # fmt: skip


def test_a_checkpoint_holds_what_was_although_the_gpu_went_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written two updates late from page-locked memory, against one that the training waited for."""
    told = Tell(5)
    came = held_back(monkeypatch, "save", told.reached)
    fit(tmp_path / "beside", told)
    assert came == [True]
    monkeypatch.undo()
    monkeypatch.setattr(_snapshot, "ROOM", 0.0)
    fit(tmp_path / "waited", Tell(99))
    for update in (3, 6):
        one, other = (tmp_path / name / f"checkpoint-{update}" for name in ("beside", "waited"))
        assert checkpoints.flaw(one) is None
        first, second = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
        assert all(torch.allclose(first[name], second[name], atol=1e-4) for name in first)
        a, b = (torch.load(folder / "optimizer.pt", map_location="cpu")["state"] for folder in (one, other))
        assert all(torch.allclose(a[n]["exp_avg"], b[n]["exp_avg"], atol=1e-4) for n in a)
        assert all(a[n]["step"].item() == update for n in a)
