"""What is to be done once a model is wrapped for training and before its first update, as Trainer's callback."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from runner.training._learner import TrainedModel
from runner.training.algorithm import Learner

if TYPE_CHECKING:
    from runner.training._update_trainer import UpdateTrainer


class Before(TrainerCallback):
    """Calls `work` with the model and the number of updates that were done before this start."""

    def __init__(self, trainer: "UpdateTrainer", work: Callable[[Learner, int], None]) -> None:
        self.trainer, self.work = trainer, work

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """All devices do it together."""
        trainer = self.trainer
        self.work(TrainedModel(trainer, trainer.model_wrapped, trainer._head), state.global_step)
