"""Liger's kernel in the place of the head: gradients of weighted rows are those of whole logits in float32."""

import math
from typing import Any

import pytest
import torch

from runner.core.types import Encoded
from runner.data.collate import MicroBatch, collate
from runner.training._predictions import head_of, predict
from tests.gpu.small import small_qwen3

pytest.importorskip("liger_kernel")
pytestmark = pytest.mark.gpu
WORDS, ROWS, LENGTH = 30_000, 6, 200


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A wide vocabulary on a small body, in float32."""
    made = small_qwen3(tmp_path_factory.mktemp("model"), vocab_size=WORDS, initializer_range=0.1)
    return made.float().cuda().eval()


def micro(weights: list[float]) -> MicroBatch:
    """Rows whose places count what is said, in turn."""
    draw = torch.Generator().manual_seed(0)
    rows = []
    for _ in range(ROWS):
        ids = torch.randint(0, WORDS, (LENGTH,), generator=draw).tolist()
        rows.append(Encoded(ids, ids, [weights[i % len(weights)] for i in range(LENGTH)]))
    return collate(rows, range(ROWS)).to("cuda")


def gradients(
    model: Any, batch: MicroBatch, temperature: float, bent: bool = False, **how: bool
) -> dict[str, torch.Tensor]:
    """Of a weighted sum of the log-probabilities; bent: of their squares, as each then has its own say."""
    model.zero_grad()
    told = predict(model, head_of(model), batch, temperature, **how)
    loss = -((told.logprobs.square() if bent else told.logprobs) * batch.weights).sum() / 1000
    loss.backward()
    found = {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}
    return {"loss": loss.detach(), **found}


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "autocast"])
@pytest.mark.parametrize("learns", [False, True], ids=["frozen", "learns"])
@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.3, 2.0]], ids=["alike", "weighted"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_one_pass_is_as_good_as_two_and_as_whole_logits(
    model: Any, autocast: bool, learns: bool, weights: list[float], temperature: float
) -> None:
    head_of(model).weight.requires_grad_(learns)  # and the embeddings, which are the same
    batch = micro(weights)
    plain = gradients(model, batch, temperature)
    with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
        one, two = (gradients(model, batch, temperature, fuse=True, weighted=known) for known in (True, False))
    assert plain.keys() == one.keys() == two.keys()
    far = [math.sqrt(sum(float((made[n] - v).square().sum()) for n, v in plain.items())) for made in (one, two)]
    size = math.sqrt(sum(float(value.square().sum()) for value in plain.values()))
    assert far[0] < (0.03 if autocast else 1e-3) * size
    assert far[0] < 1.2 * far[1] + 1e-6 * size, "worse than the kernel that is told the weights afterwards"


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "autocast"])
def test_under_a_frozen_head_any_loss_takes_one_pass(
    model: Any, autocast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import liger_kernel.transformers.functional as liger

    head_of(model).weight.requires_grad_(False)
    batch = micro([1.0, 0.3])
    plain = gradients(model, batch, 0.7, bent=True)
    monkeypatch.delattr(liger, "liger_fused_linear_cross_entropy")  # which makes the logits twice
    with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
        made = gradients(model, batch, 0.7, bent=True, fuse=True)
    assert plain.keys() == made.keys() and len(plain) > 2
    far = math.sqrt(sum(float((made[name] - value).square().sum()) for name, value in plain.items()))
    size = math.sqrt(sum(float(value.square().sum()) for value in plain.values()))
    assert far < (0.03 if autocast else 1e-3) * size
