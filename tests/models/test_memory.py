"""The memory of training, and the weights of published shapes."""

import json

import pytest

from runner.core.specs import Lora, Parallelism, TrainType
from runner.models.memory import GIB, estimate, learning_weights
from runner.models.shape import KNOWN, from_config, shape_of


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("qwen3-0.6b", 0.596),
        ("qwen3-8b", 8.19),
        ("qwen3-32b", 32.8),
        ("qwen3-30b-a3b", 30.5),
        ("smollm2-135m-instruct", 0.1345),
    ],
)
def test_known_shapes_have_the_published_number_of_weights(name: str, billions: float) -> None:
    """As the models' cards say."""
    assert KNOWN[name].parameters / 1e9 == pytest.approx(billions, rel=0.005)


def test_the_count_is_that_of_a_real_model(tmp_path) -> None:
    """A tiny model of transformers, counted and estimated."""
    from transformers import LlamaConfig, LlamaForCausalLM

    for tied in (True, False):
        config = LlamaConfig(
            hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
            vocab_size=100, tie_word_embeddings=tied,
        )  # fmt: skip
        config.save_pretrained(tmp_path)
        shape = shape_of(str(tmp_path))
        assert shape is not None
        assert shape.parameters == LlamaForCausalLM(config).num_parameters()


def test_adapters_learn_what_peft_makes_learn() -> None:
    """All linear layers, or those named."""
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=100,
    )  # fmt: skip
    shape = from_config(config.to_dict())
    assert shape is not None
    for targets in ("all-linear", ["q_proj", "v_proj"]):
        made = get_peft_model(LlamaForCausalLM(config), LoraConfig(r=4, target_modules=targets, task_type="CAUSAL_LM"))
        kind = TrainType(kind="lora", lora=Lora(rank=4, targets=targets))
        assert learning_weights(shape, kind) == sum(
            weight.numel() for weight in made.parameters() if weight.requires_grad
        )


@pytest.fixture
def without_liger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is set aside for a fused head."""
    monkeypatch.setattr("runner.models.fused_kernel.installed", lambda: False)


def test_presets_divide_what_they_say(without_liger: None) -> None:
    """ZeRO's table (arXiv 1910.02054, figure 1): 16 bytes a weight; moments, gradients and weights are split."""
    shape, full = KNOWN["qwen3-8b"], TrainType(kind="full")
    weights = shape.parameters / GIB

    def fixed(preset: str) -> float:
        return estimate(shape, full, Parallelism(preset=preset, gpus=8 if preset != "single" else 1)).fixed

    assert fixed("single") == pytest.approx(16 * weights)
    assert fixed("ddp") == pytest.approx(20 * weights)  # gradients lie once more where they are sent
    sent = 1e9 / GIB  # 5e8 gradients in bfloat16
    assert fixed("zero1") == pytest.approx((4 + 12 / 8) * weights + 2 * sent)
    assert fixed("zero2") == pytest.approx((2 + 14 / 8) * weights + 2 * sent)
    assert fixed("fsdp2") == pytest.approx(2 * weights)
    gathered = 2e9 / GIB  # what stage 3 has put together at a time
    assert fixed("zero3") == pytest.approx(2 * weights + gathered + sent)
    assert fixed("zero3_offload") == pytest.approx(gathered + sent)
    one = estimate(shape, full, Parallelism(preset="ddp"))
    assert one.fixed == pytest.approx(16 * weights)  # one device is a plain process


def test_embeddings_and_head_are_not_in_four_bits(without_liger: None) -> None:
    """By hand, of Qwen3-8B: 36 layers of 192,937,984 weights in linear layers; 2 x 151,936 x 4,096 beside them."""
    made = estimate(KNOWN["qwen3-8b"], TrainType(kind="qlora", lora=Lora(rank=1)), Parallelism())
    by_hand = (36 * 192_937_984 * 0.55 + 2 * 2 * 151_936 * 4_096) / GIB
    assert made.fixed == pytest.approx(by_hand, rel=0.01)


def test_under_freeze_only_what_the_patterns_name_learns(without_liger: None) -> None:
    """One layer of Qwen3-8B was reckoned as all of them: 137 GiB, and it takes 33."""
    shape = KNOWN["qwen3-8b"]
    one = TrainType(kind="freeze", patterns=[r"layers\.35\."])
    assert learning_weights(shape, one) == 192_937_984 + 2 * 4_096
    made = estimate(shape, one, Parallelism())
    assert made.fixed == pytest.approx((4 * shape.parameters + 12 * 192_946_176) / GIB, rel=1e-6)
    unknown = TrainType(kind="freeze", patterns=["transformer.h.0"])
    assert learning_weights(shape, unknown) == shape.parameters


def test_fewer_bytes_with_adapters_and_four_bits(without_liger: None) -> None:
    """qlora < lora < full, and more tokens need more."""
    shape = KNOWN["qwen3-8b"]
    found = [estimate(shape, TrainType(kind=kind), Parallelism()) for kind in ("qlora", "lora", "full")]
    assert found[0].fixed < found[1].fixed < found[2].fixed
    assert found[1].at(2048) > found[1].at(1024) > found[1].fixed
    assert 14 < found[1].fixed < 17  # 8.19e9 weights of two bytes, and a small adapter


LORA, WHOLE_MODEL = TrainType(kind="lora", lora=Lora(rank=8)), TrainType(kind="full")


@pytest.mark.parametrize(
    ("name", "checkpointing", "tokens", "measured", "train_type", "preset"),
    [
        ("qwen3-8b", "off", 8600, 77.5, LORA, "single"),  # on an H100
        ("qwen3-8b", "selective", 8600, 40.1, LORA, "single"),
        ("qwen3-8b", "full", 8600, 20.5, LORA, "single"),
        ("qwen3-8b", "full", 16384, 24.8, LORA, "single"),
        ("qwen3-0.6b", "off", 3170, 6.7, LORA, "single"),
        ("qwen3-8b", "off", 7895, 71.3, LORA, "single"),  # on an H200, as all that follows
        ("qwen3-0.6b", "off", 16383, 30.1, LORA, "single"),
        ("qwen3-0.6b", "off", 5600, 11.4, LORA, "single"),
        ("qwen3-0.6b", "selective", 5600, 5.5, LORA, "single"),
        ("qwen3-0.6b", "full", 5600, 2.5, LORA, "single"),
        ("qwen3-0.6b", "selective", 5600, 10.6, TrainType(kind="lora", lora=Lora(rank=8, dora=True)), "single"),
        ("qwen3-0.6b", "full", 5600, 1.8, TrainType(kind="qlora", lora=Lora(rank=8)), "single"),
        ("qwen3-0.6b", "selective", 5600, 7.3, TrainType(kind="freeze", patterns=["layers[.]2"]), "single"),
        ("qwen3-0.6b", "off", 5600, 18.1, WHOLE_MODEL, "single"),
        ("qwen3-0.6b", "selective", 5600, 13.8, WHOLE_MODEL, "single"),
        ("qwen3-0.6b", "full", 5600, 11.1, WHOLE_MODEL, "single"),
        ("qwen3-1.7b", "off", 16530, 63.7, WHOLE_MODEL, "single"),
        ("qwen3-0.6b", "full", 5600, 18.2, WHOLE_MODEL, "fsdp2"),
        ("qwen3-0.6b", "full", 5600, 19.9, WHOLE_MODEL, "zero1"),
        ("qwen3-0.6b", "full", 5600, 18.0, WHOLE_MODEL, "zero2"),
        ("qwen3-0.6b", "full", 5600, 10.3, LORA, "zero2"),
        ("qwen3-0.6b", "selective", 8192, 7.1, LORA, "single"),
        ("qwen3-0.6b", "selective", 8192, 15.2, TrainType(kind="lora", lora=Lora(rank=8, dora=True)), "single"),
        ("qwen3-0.6b", "full", 8192, 15.1, LORA, "zero2"),
        ("qwen3-0.6b", "full", 8192, 23.7, WHOLE_MODEL, "zero3"),
        ("qwen3-0.6b", "full", 8192, 16.0, WHOLE_MODEL, "zero3_offload"),
    ],
)
def test_the_estimate_is_close_to_what_was_measured(
    monkeypatch, name, checkpointing, tokens, measured, train_type, preset
) -> None:
    """In GiB, of one GPU: compiled, packed, head and loss fused where the preset lets them. tokens: of the largest
    micro-batch. Those of 5,600 were measured with a smaller buffer of logits, and are told with the one of today.
    """
    monkeypatch.setattr("runner.models.fused_kernel.installed", lambda: True)
    made = estimate(KNOWN[name], train_type, Parallelism(preset=preset))
    assert made.at(tokens, checkpointing) == pytest.approx(measured, rel=0.15)


def test_nothing_is_kept_of_layers_below_all_that_learns(monkeypatch) -> None:
    """The last of 36 layers alone has activations to keep; with the embeddings, which are before them, all have."""
    monkeypatch.setattr("runner.models.fused_kernel.installed", lambda: True)
    shape = KNOWN["qwen3-8b"]

    def kept(*patterns: str) -> float:
        return estimate(shape, TrainType(kind="freeze", patterns=list(patterns)), Parallelism()).per_token["off"]

    assert kept("layers[.]35[.]") == pytest.approx(kept("embed_tokens") / 36)
    assert kept("layers[.]35[.]", "layers[.]18[.]") == pytest.approx(kept("embed_tokens") / 2)
    assert kept("lm_head") == 0


def test_logits_count_where_the_head_is_not_fused(monkeypatch) -> None:
    """Under ZeRO and FSDP2 it never is; with Liger installed the estimate left them out, 1.4 MB a token of Qwen3."""
    monkeypatch.setattr("runner.models.fused_kernel.installed", lambda: True)
    full, shape = TrainType(kind="full"), KNOWN["qwen3-8b"]
    one, split = (estimate(shape, full, Parallelism(preset=preset, gpus=4)).per_token for preset in ("ddp", "zero3"))
    assert (split["full"] - one["full"]) * GIB == pytest.approx(9.5 * 151_936)


def test_what_is_unknown_stays_unknown(tmp_path) -> None:
    """A hub id of no known shape, a config of another kind, an empty folder."""
    assert shape_of("some/model") is None
    assert shape_of(str(tmp_path)) is None
    (tmp_path / "config.json").write_text(json.dumps({"d_model": 5}))
    assert shape_of(str(tmp_path)) is None
    assert shape_of("Qwen/Qwen3-8B") == KNOWN["qwen3-8b"]


def test_an_adapter_has_the_shape_of_its_base(tmp_path) -> None:
    """Followed through adapter_config.json."""
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "Qwen/Qwen3-4B"}))
    assert shape_of(str(tmp_path)) == KNOWN["qwen3-4b"]
