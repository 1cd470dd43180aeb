"""Packed sequences in bfloat16, by each kernel that is installed, against padded ones in float32."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from runner.algorithms.sft import Sft
from runner.core.errors import ModelError
from runner.core.specs import Model, TrainType
from runner.core.types import Encoded
from runner.data.collate import MicroBatch, collate
from runner.models.load import load_model
from runner.models.locate import locate
from runner.training._predictions import head_of, predict
from tests.tiny import tiny_tokenizer

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore")]  # the kernels own

KERNELS = ["varlen", "flash_attention_2", "flash_attention_3", "flash_attention_4"]
CUTS = {
    "at once": [range(12)],
    "one by one": [range(row, row + 1) for row in range(12)],
    "uneven": [range(5), range(5, 12)],
}


@pytest.fixture(scope="module", params=[16, 32, 48, 64, 80, 96, 128, 256])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Qwen3 with heads of a size, and weights so large that a row feels its context."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    made = tmp_path_factory.mktemp("model")
    tokenizer = tiny_tokenizer("thinker")
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=256, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=request.param, initializer_range=0.1, tie_word_embeddings=True,
    )  # fmt: skip
    Qwen3ForCausalLM(config).save_pretrained(made)
    tokenizer.save_pretrained(made)
    return made


def learner(folder: Path, dtype: Any, attention: str) -> Any:
    """The model on the GPU, all weights learning; skipped where the kernel is not installed."""
    spec = Model(id=str(folder), dtype=dtype, attention=attention)  # type: ignore[arg-type]
    try:
        return load_model(locate(spec, "modelscope"), spec, TrainType(kind="full")).requires_grad_(True)
    except ModelError as error:
        pytest.skip(str(error))


def rows() -> list[Encoded]:
    """Twelve sequences of 3 to 300 tokens, the later half of each trained."""
    rng = random.Random(0)
    made = []
    for row in range(12):
        ids = [rng.randrange(100) for _ in range(rng.randint(3, 300))]
        made.append(Encoded(ids, [-100] * (len(ids) // 2) + ids[len(ids) // 2 :], None, row=row))
    return made


def gradient(model: Any, data: list[Encoded], micros: list[MicroBatch]) -> torch.Tensor:
    """The gradient of one update over these micro-batches, float32."""
    model.zero_grad()
    algorithm = Sft()
    totals = {"weight": sum(algorithm.measure(row)["weight"] for row in data)}
    for micro in (micro.to("cuda") for micro in micros):
        algorithm.loss(predict(model, head_of(model), micro), micro, totals)[0].backward()
    return torch.cat([p.grad.flatten().float() for p in model.parameters() if p.grad is not None])


def alike(one: torch.Tensor, other: torch.Tensor) -> float:
    """The cosine between two gradients."""
    return float(torch.nn.functional.cosine_similarity(one, other, dim=0))


@pytest.mark.parametrize("kernel", KERNELS)
def test_packed_in_bfloat16_is_padded_in_float32(folder: Path, kernel: str) -> None:
    """However the rows are cut; and without bounds between the documents it would not be."""
    data = rows()
    padded = gradient(learner(folder, "float32", "sdpa"), data, [collate(data, range(12))])
    model = learner(folder, "bfloat16", kernel)
    for name, cut in CUTS.items():
        micros = [collate([data[i] for i in numbers], numbers, packed=True) for numbers in cut]
        assert alike(padded, gradient(model, data, micros)) > 0.999, name
    merged = collate(data, range(12), packed=True)
    whole = torch.tensor([0, merged.tokens], dtype=torch.int32)
    merged.inputs.update(cu_seq_lens_q=whole, cu_seq_lens_k=whole)
    merged.inputs.update(max_length_q=merged.tokens, max_length_k=merged.tokens)
    assert alike(padded, gradient(model, data, [merged])) < 0.99
