"""What left the GPU comes back, and what belongs into host memory stays there. On a GPU: gpu/test_grpo.py."""

import types
from typing import Any

import pytest
import torch

from runner.rollouts._offload import Offload


class Placed(torch.Tensor):
    """A tensor that says where it is: there need be no such device."""

    where = torch.device("cuda", 0)

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self.where

    def to(self, device: Any) -> "Placed":  # type: ignore[override]
        made = torch.zeros(2).as_subclass(Placed)
        made.where = torch.device(device)
        return made


def learner(state: dict[str, Any]) -> Any:
    """As much of one as is looked at."""
    own = torch.nn.Linear(2, 2)
    optimizer = types.SimpleNamespace(state={own.weight: state})
    trainer = types.SimpleNamespace(optimizer=optimizer, args=types.SimpleNamespace(device=torch.device("cuda", 0)))
    return types.SimpleNamespace(own=own, trainer=trainer)


@pytest.mark.parametrize("wanted", [True, False])
def test_what_left_the_gpu_comes_back(wanted: bool) -> None:
    state: dict[str, Any] = {"exp_avg": torch.zeros(2).as_subclass(Placed), "step": torch.tensor(1.0)}
    offload, one = Offload(True, wanted), learner(state)
    for _ in range(2):
        offload.optimizer_away(one)
        offload.model_away(one)
        assert state["exp_avg"].device.type == ("cpu" if wanted else "cuda")
        offload.back()
        assert state["exp_avg"].device == torch.device("cuda", 0)


def test_what_belongs_into_host_memory_stays_there() -> None:
    """As the states of ZeRO's optimizer on the CPU do."""
    kept = torch.zeros(2)
    offload, state = Offload(True, True), {"exp_avg": kept}
    one = learner(state)
    offload.optimizer_away(one)
    offload.model_away(one)
    offload.back()
    assert state["exp_avg"] is kept and one.own.weight.device.type == "cpu"
