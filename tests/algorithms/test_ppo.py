"""PPO's loss: as its formula, and the same under any cut."""

import dataclasses
import math
import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from runner.algorithms.ppo import Ppo
from runner.core.types import Encoded
from runner.data.collate import collate
from runner.models.critic import Critic
from runner.training._predictions import head_of, predict
from tests.algorithms.sampled import answers
from tests.training import small


def data() -> list[Encoded]:
    """Answers with gains, foretold values and returns."""
    rng = random.Random(3)
    made = []
    for one in answers(8):
        size = len(one.input_ids)
        more = {name: [rng.gauss(0.0, 1.0) for _ in range(size)] for name in ("gain", "value", "return")}
        made.append(dataclasses.replace(one, per_token={"old": one.per_token["old"], **more}))
    return made


def share(rows: Sequence[Encoded], cut: Sequence[Sequence[int]], packed: bool = False) -> Any:
    """Loss, gradient of the body and of the value head."""
    learner = small.model()
    torch.manual_seed(0)
    critic = Critic(learner)
    algorithm = Ppo(critic=critic)
    totals = {"tokens": sum(algorithm.measure(row)["tokens"] for row in rows)}
    loss = 0.0
    for numbers in cut:
        micro = collate([rows[i] for i in numbers], numbers, packed)
        part, _ = algorithm.loss(predict(learner, head_of(learner), micro), micro, totals)
        part.backward()
        loss += part.item()
    return loss, torch.cat([p.grad.flatten() for p in learner.parameters() if p.grad is not None]), learner, critic


def test_the_gradient_does_not_depend_on_the_cut() -> None:
    rows = data()
    whole = share(rows, [range(8)])
    assert whole[2].get_output_embeddings().value_head.weight.grad.abs().max() > 0
    for cut, packed in (([[0, 1], [2], [3, 4, 5, 6, 7]], False), ([[i] for i in range(8)], False), ([range(8)], True)):
        loss, gradient, _, _ = share(rows, cut, packed)
        assert loss == pytest.approx(whole[0], abs=1e-6)
        assert float((gradient - whole[1]).norm() / whole[1].norm()) < 2e-6


def test_the_loss_is_its_formula() -> None:
    rows = data()
    loss, _, learner, critic = share(rows, [range(8)])
    total, count = 0.0, 0
    with torch.no_grad():
        for one in rows:
            places = [i for i, label in enumerate(one.labels) if label != -100]
            chances = learner(torch.tensor([one.input_ids])).logits[0].log_softmax(-1)
            for i in places:
                ratio, gain = (
                    math.exp(float(chances[i - 1, one.input_ids[i]]) - one.per_token["old"][i]),
                    one.per_token["gain"][i],
                )
                value, old = float(critic.last[0, i - 1]), one.per_token["value"][i]
                near = old + max(-0.2, min(0.2, value - old))
                back = one.per_token["return"][i]
                total += -min(ratio * gain, min(max(ratio, 0.8), 1.2) * gain)
                total += 0.1 * 0.5 * max((value - back) ** 2, (near - back) ** 2)
                count += 1
    assert loss == pytest.approx(total / count, abs=1e-5)


def test_a_critic_leaves_the_model_as_it_was() -> None:
    learner = small.model()
    names = list(learner.state_dict())
    Critic(learner).detach()
    assert list(learner.state_dict()) == names
    learner(torch.tensor([[3, 4]]))
