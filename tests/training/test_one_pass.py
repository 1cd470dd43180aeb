"""The gradient that is made with the log-probabilities, by a kernel reckoned without a GPU, against autograd's."""

import sys
import types
from typing import Any

import pytest
import torch

from runner.algorithms.sft import Sft
from runner.core.types import Encoded
from runner.data.collate import MicroBatch, collate
from runner.training._predictions import head_of, predict
from tests.training import small
from tests.training.test_temperature import T, biased


def reckoned(
    hidden: Any, weight: Any, target: Any, bias: Any = None, *, token_grad_output: Any, weight_requires_grad: bool,
    reduction: str, compute_gradients: bool, accum_dtype: Any, chunk_mem_const: int,
) -> Any:  # fmt: skip
    """What Liger's function of this name gives."""
    assert reduction == "none" and compute_gradients and chunk_mem_const >= 1 and accum_dtype is torch.float32
    logits = hidden @ weight.T + (0 if bias is None else bias)
    loss = torch.nn.functional.cross_entropy(logits, target, reduction="none")
    each = logits.softmax(-1)
    each[torch.arange(len(target)), target] -= 1
    each *= 1 if token_grad_output is None else token_grad_output[:, None]
    grad_weight = each.T @ hidden if weight_requires_grad else None
    return loss, None, None, None, each @ weight, grad_weight, None if bias is None else each.sum(0)


@pytest.fixture(autouse=True)
def kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the place of Liger."""

    def deferred(*_: Any, **__: Any) -> Any:
        raise AssertionError("the logits are made twice")

    made: dict[str, Any] = {
        name: types.ModuleType(name)
        for name in (
            "liger_kernel", "liger_kernel.transformers", "liger_kernel.transformers.functional", "liger_kernel.ops",
            "liger_kernel.ops.fused_linear_cross_entropy",
        )
    }  # fmt: skip
    made["liger_kernel.transformers.functional"].liger_fused_linear_cross_entropy = deferred
    made["liger_kernel.ops.fused_linear_cross_entropy"].fused_linear_cross_entropy_forward = reckoned
    for name, module in made.items():
        monkeypatch.setitem(sys.modules, name, module)


def gradients(model: Any, micro: MicroBatch, fuse: bool, temperature: float = 1.0) -> dict[str, torch.Tensor]:
    """Of SFT's loss, which is a weighted sum."""
    model.zero_grad()
    told = predict(model, head_of(model), micro, temperature, fuse, weighted=True)
    loss, _ = Sft().loss(told, micro, {"weight": 7.0})
    loss.backward()
    found = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
    return {"loss": loss.detach(), **found}


def weighted(filler: bool = False) -> MicroBatch:
    rows = [Encoded(row.input_ids, row.labels, [(i % 5) / 2 for i in range(len(row.input_ids))])
            for row in small.rows(6)]  # fmt: skip
    return collate(rows, range(6), filler=filler)


@pytest.mark.parametrize("make", [small.model, small.adapter, biased])
@pytest.mark.parametrize("temperature", [1.0, T])
def test_weights_of_any_kind(make: Any, temperature: float) -> None:
    model, micro = make().eval(), weighted()
    assert len(set(micro.weights.tolist())) > 3
    plain, made = (gradients(model, micro, fuse, temperature) for fuse in (False, True))
    assert plain.keys() == made.keys() and len(plain) > 2
    for name, value in plain.items():
        assert torch.allclose(made[name], value, atol=1e-6), name


def bent(model: Any, fuse: bool) -> list[torch.Tensor]:
    """Gradients of a loss that is no sum of the log-probabilities, as that of DPO."""
    model.zero_grad()
    told = predict(model, head_of(model), weighted(), T, fuse)
    torch.nn.functional.logsigmoid(told.logprobs + 3).square().sum().backward()
    return [one.grad for one in model.parameters() if one.grad is not None]


def frozen_head() -> Any:
    """All else learns."""
    model = biased()
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone(), requires_grad=False)
    model.lm_head.bias.requires_grad_(False)
    return model


@pytest.mark.parametrize("make", [small.adapter, frozen_head])
def test_under_a_head_that_does_not_learn_any_loss_will_do(make: Any) -> None:
    model = make().eval()
    plain, made = bent(model, False), bent(model, True)
    assert len(plain) == len(made) > 2 and any(bool(value.any()) for value in plain)
    for one, other in zip(plain, made, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [small.model, biased])
def test_a_head_that_learns_has_its_logits_made_twice_by_any_other_loss(make: Any) -> None:
    with pytest.raises(AssertionError, match="made twice"):
        bent(make(), True)


def test_a_filler_has_a_gradient_of_nothing() -> None:
    made = gradients(small.model().eval(), weighted(filler=True), fuse=True)
    assert len(made) > 2 and all(not value.any() for value in made.values())


def test_without_a_gradient_nothing_is_made_ahead() -> None:
    model = small.model()
    with torch.no_grad(), pytest.raises(AssertionError, match="made twice"):
        predict(model, head_of(model), weighted(), fuse=True, weighted=True)


def test_what_they_are_multiplied_by_is_not_rounded() -> None:
    """To bfloat16 1.3008 is 1.2969 or 1.3047: every gradient of the update would be off by 0.3%."""
    from runner.training._one_pass import OnePass

    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(50, 16, generator=draw, requires_grad=True)
    hidden = torch.randn(200, 16, generator=draw).to(torch.bfloat16).requires_grad_()
    targets, weights = torch.randint(0, 50, (200,), generator=draw), torch.ones(200)
    options = {"accum_dtype": torch.float32, "chunk_mem_const": 1}
    found = []
    for multiple in (1.0, 1.3008):
        weight.grad = hidden.grad = None
        told = OnePass.apply(hidden, weight, None, targets, weights, options)  # type: ignore[no-untyped-call]
        (told.sum() * multiple).backward()
        assert weight.grad is not None and weight.grad.dtype == torch.float32
        assert hidden.grad is not None and hidden.grad.dtype == torch.bfloat16
        found.append((weight.grad.clone(), hidden.grad.float()))
    for one, other in zip(*found, strict=True):
        assert float((one * other).sum() / (one * one).sum()) == pytest.approx(1.3008, abs=1e-3)
