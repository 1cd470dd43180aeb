"""Logits are divided by the temperature, after all that a model does to them: not what its head is given."""

from typing import Any

import pytest
import torch

from runner.data.collate import collate
from runner.models.critic import Critic
from runner.training._predictions import head_of, predict
from tests.training import small

T = 0.6


def capped() -> Any:
    """Gemma 2 caps its logits; with weights large enough that the cap is felt."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=small.VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, final_logit_softcapping=3.0, initializer_range=0.5,
    )  # fmt: skip
    return Gemma2ForCausalLM(config).eval()


def biased() -> Any:
    """A head with a bias."""
    learner = small.model()
    head = torch.nn.Linear(32, small.VOCABULARY)
    head.weight, head.bias.data = learner.lm_head.weight, torch.randn(small.VOCABULARY)
    learner.lm_head = head
    return learner.eval()


@pytest.mark.parametrize("make", [small.model, capped, biased])
@pytest.mark.parametrize("packed", [False, True])
def test_log_probabilities_at_a_temperature_are_those_of_plain_logits(make: Any, packed: bool) -> None:
    learner, data = make(), small.rows(6)
    micro = collate(data, range(6), packed and make is small.model)
    told = predict(learner, head_of(learner), micro, T)
    plain: list[float] = []
    for row in data:
        logits = learner(torch.tensor([row.input_ids])).logits[0].float() / T
        plain += [logits[i - 1].log_softmax(-1)[label].item() for i, label in enumerate(row.labels) if label != -100]
    assert told.logprobs.tolist() == pytest.approx(plain, abs=2e-5)
    assert torch.allclose(told.logits.log_softmax(-1).gather(1, micro.targets[:, None])[:, 0], told.logprobs, atol=2e-5)


def test_the_kernel_divides_the_bias_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel is given, reckoned without a GPU."""
    import sys
    import types

    def plain(hidden: Any, weight: Any, targets: Any, bias: Any, **_: Any) -> Any:
        return torch.nn.functional.cross_entropy(hidden @ weight.T + bias, targets, reduction="none")

    module: Any = types.ModuleType("liger_kernel.transformers.functional")
    module.liger_fused_linear_cross_entropy = plain
    for name in ("liger_kernel", "liger_kernel.transformers"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    learner, micro = biased(), collate(small.rows(6), range(6))
    one, other = (predict(learner, head_of(learner), micro, T, fuse).logprobs for fuse in (False, True))
    assert torch.allclose(one, other, atol=1e-5)


def test_a_critic_is_given_the_same_at_any_temperature() -> None:
    learner, micro = small.model(), collate(small.rows(6), range(6))
    critic = Critic(learner)
    told = []
    for temperature in (1.0, T):
        predict(learner, head_of(learner), micro, temperature)
        told.append(critic.last.detach())
    assert torch.equal(*told)
