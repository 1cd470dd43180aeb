"""The operations of a token: of what is computed with, and as much of it as one token goes through."""

import types

import pytest

from runner.training.speed import operations, peak, told
from tests.training import small


def test_of_a_mixture_only_the_experts_that_a_token_goes_through_count() -> None:
    """An MFU of several times the peak was told for them."""
    model = small.experts()  # each token takes two of four experts
    every = sum(weight.numel() for name, weight in model.named_parameters() if "embed_tokens" not in name)
    experts = sum(weight.numel() for name, weight in model.named_parameters() if ".experts." in name)
    assert experts
    assert operations(model) == pytest.approx(6 * (every - experts / 2))


def test_frozen_weights_before_all_that_learns_have_no_gradient_to_pass_on() -> None:
    """The last layer learns: what is below it runs forward only, the head behind it is passed."""
    model = small.model()
    for name, weight in model.named_parameters():
        weight.requires_grad_("layers.1." in name)
    sizes = {name: weight.numel() for name, weight in model.named_parameters()}
    learning, below = (sum(n for name, n in sizes.items() if part in name) for part in ("layers.1.", "layers.0."))
    rest = sum(sizes.values()) - learning - below  # the tied head and the last norm
    assert model.config.tie_word_embeddings
    assert operations(model) == 6 * learning + 2 * below + 4 * rest


def test_a_weight_in_four_bits_counts_for_what_it_stands() -> None:
    model = small.adapter()
    plain = operations(model)
    weight = next(weight for name, weight in model.named_parameters() if name.endswith("q_proj.base_layer.weight"))
    weight.quant_state = types.SimpleNamespace(shape=weight.shape)
    weight.data = weight.data.flatten()[::2]
    assert operations(model) == plain


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12), ("NVIDIA H100 PCIe", 756e12), ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA L40", 181e12), ("NVIDIA L4", 121e12), ("NVIDIA A10G", 70e12), ("NVIDIA GeForce RTX 4090", 165e12),
        ("NVIDIA RTX A1000", None), ("NVIDIA GeForce RTX 4090 Laptop GPU", None), ("Tesla T4", None),
    ],
)  # fmt: skip
def test_a_peak_is_that_of_the_gpu_and_not_of_one_with_a_similar_name(name: str, found: float | None) -> None:
    """An L40 got the L4's, an RTX A1000 the A100's: an MFU that nobody reached."""
    assert peak(name) == found
    assert ("not known" in told(name)) == (found is None) and name in told(name)
