"""When a running training logs, evaluates, saves and stops, as Trainer's callback."""

from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from runner.training.settings import Rhythm

if TYPE_CHECKING:
    from runner.training._update_trainer import UpdateTrainer


class Beat(TrainerCallback):
    """Sets Trainer's flags after each update by our rhythm alone; its own strategies are off."""

    def __init__(self, trainer: "UpdateTrainer", rhythm: Rhythm) -> None:
        self.trainer, self.rhythm = trainer, rhythm

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The evaluation before the first update; one that a stop cut off is made up for."""
        if self._evaluates(state.global_step) and self.trainer.books.evaluated != state.global_step:
            self.trainer.evaluate()
            self.trainer.saver.evaluated()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """After each update."""
        update = state.global_step
        self.trainer.saver.check()
        self.trainer.end_update()
        control.should_log = self.rhythm.logs(update)
        control.should_evaluate = self._evaluates(update) and not self.trainer.stopping
        control.should_save = self.rhythm.saves(update) or self.trainer.stopping
        control.should_training_stop = update >= self.rhythm.total or self.trainer.stopping

    def _evaluates(self, update: int) -> bool:
        return self.trainer.evaluation is not None and self.rhythm.evaluates(update)
