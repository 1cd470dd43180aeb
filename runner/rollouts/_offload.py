"""Moves a training's weights and optimizer states to host memory while an engine samples on its GPU, and back.

Weights that are split over devices stay: each device holds a small part, in buffers of the engine that splits them.
"""

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from runner.training.algorithm import Learner


class Offload:
    """model, optimizer: whether each is moved. What was in host memory before, as of an engine that steps there, stays
    there.
    """

    def __init__(self, model: bool, optimizer: bool) -> None:
        self.model, self.optimizer = model, optimizer
        self._states: list[tuple[dict[str, Any], str, torch.device]] = []  # that were moved, and where from
        self._parameters: list[tuple[torch.nn.Parameter, torch.device]] = []

    def optimizer_away(self, learner: "Learner") -> None:
        """Before the engine wakes up."""
        for state in learner.trainer.optimizer.state.values() if self.optimizer else ():
            for name, value in state.items():
                if isinstance(value, torch.Tensor) and value.dim() and value.device.type != "cpu":  # no step counter
                    self._states.append((state, name, value.device))
        for state, name, _ in self._states:
            state[name] = state[name].to("cpu")
        torch.cuda.empty_cache()

    def model_away(self, learner: "Learner") -> None:
        """Once the engine has the weights."""
        for parameter in learner.own.parameters() if self.model else ():
            split = hasattr(parameter, "ds_id") or hasattr(parameter, "full_tensor")
            if not split and parameter.device.type != "cpu":
                self._parameters.append((parameter, parameter.device))
        for parameter, _ in self._parameters:
            parameter.data = parameter.data.to("cpu")
        torch.cuda.empty_cache()

    def back(self) -> None:
        """Before the next update."""
        for parameter, device in self._parameters:
            parameter.data = parameter.data.to(device)
        for state, name, device in self._states:
            state[name] = state[name].to(device)
        self._parameters, self._states = [], []
