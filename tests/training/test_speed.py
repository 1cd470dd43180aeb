"""The operations of a token: of what is computed with, and as much of it as one token goes through."""

import types

import pytest

from runner.training.speed import operations
from tests.training import small


def test_of_a_mixture_only_the_experts_that_a_token_goes_through_count() -> None:
    """An MFU of several times the peak was told for them."""
    model = small.experts()  # each token takes two of four experts
    every = sum(weight.numel() for name, weight in model.named_parameters() if "embed_tokens" not in name)
    experts = sum(weight.numel() for name, weight in model.named_parameters() if ".experts." in name)
    assert experts
    assert operations(model) == pytest.approx(6 * (every - experts / 2))


def test_a_weight_in_four_bits_counts_for_what_it_stands() -> None:
    model = small.adapter()
    plain = operations(model)
    weight = next(weight for name, weight in model.named_parameters() if name.endswith("q_proj.base_layer.weight"))
    weight.quant_state = types.SimpleNamespace(shape=weight.shape)
    weight.data = weight.data.flatten()[::2]
    assert operations(model) == plain
