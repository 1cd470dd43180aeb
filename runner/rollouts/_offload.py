"""Moves a training's weights and optimizer states to host memory while an engine samples on its GPU, and back.

Weights that are split over devices stay: each device holds a small part, in buffers of the engine that splits them.
"""

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from runner.training.algorithm import Learner


class Offload:
    """model, optimizer: whether each is moved."""

    def __init__(self, model: bool, optimizer: bool) -> None:
        self.model, self.optimizer = model, optimizer

    def optimizer_away(self, learner: "Learner") -> None:
        """Before the engine wakes up."""
        if self.optimizer:
            _states(learner, "cpu")
        torch.cuda.empty_cache()

    def model_away(self, learner: "Learner") -> None:
        """Once the engine has the weights."""
        if self.model:
            _parameters(learner, "cpu")
        torch.cuda.empty_cache()

    def back(self, learner: "Learner") -> None:
        """Before the next update."""
        device = learner.trainer.args.device
        if self.model:
            _parameters(learner, device)
        if self.optimizer:
            _states(learner, device)


def _parameters(learner: "Learner", device: Any) -> None:
    for parameter in learner.own.parameters():
        if not hasattr(parameter, "ds_id") and not hasattr(parameter, "full_tensor"):
            parameter.data = parameter.data.to(device)


def _states(learner: "Learner", device: Any) -> None:
    for state in learner.trainer.optimizer.state.values():
        for name, value in state.items():
            if isinstance(value, torch.Tensor) and value.dim():  # a step counter stays where the optimizer wants it
                state[name] = value.to(device)
