"""Packed weights give what plain ones give, for rows of any number, with a bias or none, tied or not."""

import copy

import pytest
import torch

from runner.backends import _packed_weights


@pytest.mark.parametrize("rows", [1, 5, 16, 100])
def test_the_product_is_the_same(rows: int) -> None:
    """To rounding; embeddings that are the output layer too still embed."""
    torch.manual_seed(0)
    words = torch.nn.Embedding(300, 64)
    head = torch.nn.Linear(64, 300, bias=False)
    head.weight = words.weight
    plain = torch.nn.ModuleList([words, torch.nn.Linear(64, 64), head]).eval()
    packed = copy.deepcopy(plain)
    _packed_weights.pack(packed)
    ids = torch.arange(rows)[None]
    with torch.inference_mode():
        one, other = (part[2](part[1](part[0](ids))) for part in (plain, packed))
    assert torch.allclose(one, other, atol=1e-5)
    assert packed[1].weight.layout != torch.strided, "nothing was packed"
    assert packed[0].weight.layout == torch.strided


def test_other_types_stay() -> None:
    """What is not float32 is left alone."""
    layer = torch.nn.ModuleList([torch.nn.Linear(8, 8, dtype=torch.bfloat16)])
    _packed_weights.pack(layer)
    assert layer[0].weight.layout == torch.strided
