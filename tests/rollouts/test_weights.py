"""What an engine is given is what a merged model would hold, and nothing of the model changes on the way."""

from typing import Any

import pytest
import torch

from runner.core.errors import ModelError
from runner.rollouts._weights import BUCKET, buckets, weights
from tests.training import small


def adapted(tied: bool = True, **keys: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    model = small.model()
    if not tied:
        model = type(model)(type(model.config)(**{**model.config.to_dict(), "tie_word_embeddings": False}))
    given = {"target_modules": "all-linear", "init_lora_weights": False, **keys}
    return get_peft_model(model, LoraConfig(r=4, lora_alpha=8, **given))


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"use_rslora": True},
        {"modules_to_save": ["norm"]},
        {"tied": False, "target_modules": ["embed_tokens", "q_proj"]},
        {"tied": False, "target_modules": ["embed_tokens", "lm_head"]},
    ],
)
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


@pytest.mark.parametrize(
    "keys", [{"target_modules": ["embed_tokens", "q_proj"]}, {"modules_to_save": ["embed_tokens"]}]
)
def test_embeddings_that_are_the_output_too_stay_one(keys: dict[str, Any]) -> None:
    """An engine that ties them computes what the model does."""
    model, engine, ids = adapted(ensure_weight_tying=True, **keys).eval(), small.model(9).eval(), torch.arange(20)[None]
    engine.load_state_dict(dict(weights(model)), strict=False)
    with torch.no_grad():
        assert torch.allclose(engine(ids).logits, model(ids).logits, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`", "ignore:`lora_bias=True`")
@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"target_modules": ["lm_head", "q_proj"]}, r"embed_tokens.weight and lm_head.weight: one weight, and the ad"),
        ({"target_modules": ["embed_tokens"]}, r"embed_tokens.weight and lm_head.weight: one weight, and the adapter"),
        ({"lora_bias": True}, r"q_proj: its adapter is not low ranks alone"),
        ({"trainable_token_indices": [1, 2]}, r"TrainableTokensLayer of peft is no sum"),
        ({"target_modules": [], "target_parameters": ["q_proj.weight"]}, r"ParamWrapper of peft is no sum"),
    ],
)
def test_what_would_be_left_out_is_refused(keys: dict[str, Any], told: str) -> None:
    with pytest.raises(ModelError, match=rf"{told}.*Take backend=transformers"):
        list(weights(adapted(**keys)))


def test_buckets_are_not_larger_than_they_may_be() -> None:
    sizes = [BUCKET // 8, BUCKET // 16, BUCKET // 8, BUCKET // 2]
    named = [(str(n), torch.empty(size, dtype=torch.int16, device="meta")) for n, size in enumerate(sizes)]
    assert [[name for name, _ in some] for some in buckets(named)] == [["0", "1", "2"], ["3"]]
