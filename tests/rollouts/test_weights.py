"""What an engine is given is what a merged model would hold, and nothing of the model changes on the way."""

from typing import Any

import pytest
import torch

from runner.core.errors import ModelError
from runner.rollouts._weights import BUCKET, buckets, weights
from tests.training import small


def adapted(**keys: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False, **keys)
    return get_peft_model(small.model(), config)


@pytest.mark.parametrize("keys", [{}, {"use_rslora": True}, {"modules_to_save": ["norm"]}])
def test_an_adapter_is_added_to_its_base(keys: dict[str, Any]) -> None:
    model = adapted(**keys)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    given = {name: value.clone() for name, value in weights(model)}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    merged = dict(model.merge_and_unload().named_parameters())
    assert given.keys() == merged.keys()
    assert all(torch.allclose(value, merged[name], atol=1e-6) for name, value in given.items())


def test_whole_models_give_each_weight_once_in_the_type_that_is_asked_for() -> None:
    model = small.model()
    given = dict(weights(model, torch.bfloat16))
    assert given.keys() == dict(model.named_parameters()).keys()
    assert {value.dtype for value in given.values()} == {torch.bfloat16}


def test_dora_is_refused() -> None:
    with pytest.raises(ModelError, match=r"DoRA is no sum"):
        list(weights(adapted(use_dora=True)))


def test_buckets_are_not_larger_than_they_may_be() -> None:
    sizes = [BUCKET // 8, BUCKET // 16, BUCKET // 8, BUCKET // 2]
    named = [(str(n), torch.empty(size, dtype=torch.int16, device="meta")) for n, size in enumerate(sizes)]
    assert [[name for name, _ in some] for some in buckets(named)] == [["0", "1", "2"], ["3"]]
