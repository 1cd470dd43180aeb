"""Log-probabilities without a gradient, as of a reference model: numbers and memory, with the kernel and without it."""

import importlib.util
from typing import Any

import pytest
import torch

from runner.core.types import Encoded
from runner.data.collate import MicroBatch, collate
from runner.training._predictions import head_of, logprobs, predict
from tests.gpu.small import small_qwen3

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore")]  # the kernel's own

WORDS, TOKENS, T = 65_536, 4096, 0.6


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A wide vocabulary on a small body."""
    return small_qwen3(tmp_path_factory.mktemp("model"), vocab_size=WORDS, initializer_range=0.1).cuda().eval()


@pytest.fixture(scope="module")
def micro() -> MicroBatch:
    """One long row, all of it trained."""
    ids = torch.randint(0, WORDS, (TOKENS,), generator=torch.Generator().manual_seed(0)).tolist()
    return collate([Encoded(ids, ids, None)], [0]).to("cuda")


@pytest.mark.parametrize("kernel", [False, True])
def test_the_numbers_are_those_of_whole_logits_and_take_less_memory(
    model: Any, micro: MicroBatch, kernel: bool
) -> None:
    if kernel and importlib.util.find_spec("liger_kernel") is None:
        pytest.skip("liger-kernel is not installed")
    head = head_of(model)
    with torch.no_grad():
        plain = predict(model, head, micro, T).logprobs
        logprobs(model, head, micro, T, kernel)  # compiles
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        told = logprobs(model, head, micro, T, kernel)
    taken = torch.cuda.max_memory_allocated() - before
    assert told.dtype == torch.float32 and (told - plain).abs().max() < 0.1 and (told - plain).abs().mean() < 0.01
    assert taken < TOKENS * WORDS * 4, "float32 logits of all places were there at once"
