"""Moves a training's weights and optimizer states to host memory while an engine samples on its GPU, and back."""

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from runner.training.algorithm import Learner


class Offload:
    """model, optimizer: whether each is moved. DeepSpeed moves its own."""

    def __init__(self, model: bool, optimizer: bool) -> None:
        self.model, self.optimizer = model, optimizer

    def optimizer_away(self, learner: "Learner") -> None:
        """Before the engine wakes up."""
        if self.optimizer and not _deepspeed(learner):
            _states(learner, "cpu")
        torch.cuda.empty_cache()

    def model_away(self, learner: "Learner") -> None:
        """Once the engine has the weights."""
        if _deepspeed(learner):
            parts = self._parts()
            if parts:
                learner.model.offload_states(include=parts)
        elif self.model:
            _parameters(learner, "cpu")
        torch.cuda.empty_cache()

    def back(self, learner: "Learner") -> None:
        """Before the next update."""
        if _deepspeed(learner):
            if self._parts():
                learner.model.reload_states()
            return
        device = learner.trainer.args.device
        if self.model:
            _parameters(learner, device)
        if self.optimizer:
            _states(learner, device)

    def _parts(self) -> list[Any]:
        from deepspeed.runtime.zero.offload_config import OffloadStateTypeEnum as Part

        made = [Part.lp_params, Part.hp_params] if self.model else []
        return [*made, Part.optim_states] if self.optimizer else made


def _deepspeed(learner: "Learner") -> bool:
    return hasattr(learner.model, "offload_states") and hasattr(learner.model, "zero_optimization_stage")


def _parameters(learner: "Learner", device: Any) -> None:
    for parameter in learner.own.parameters():
        parameter.data = parameter.data.to(device, non_blocking=False)


def _states(learner: "Learner", device: Any) -> None:
    optimizer = learner.trainer.optimizer
    for state in optimizer.state.values():
        for name, value in state.items():
            if isinstance(value, torch.Tensor) and value.dim():  # a step counter stays where the optimizer wants it
                state[name] = value.to(device)
