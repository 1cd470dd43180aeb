"""Direct preference optimization: a model learns to prefer the chosen answer of each pair to the rejected one."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from runner.algorithms.dpo import Dpo as Loss
from runner.core.errors import ConfigError
from runner.core.schema import component
from runner.stages._preference import Preference, own_keys

if TYPE_CHECKING:
    from runner.training.algorithm import Algorithm


@component
class Dpo(Preference, Loss):
    """Learning from pairs of answers. Keys and defaults of the loss are those of TRL's DPOConfig."""

    def check(self, roots: Sequence[Path], key: str) -> None:
        """Refuse weights that belong to no loss, and a smoothing that is missing, or that no loss reads."""
        super().check(roots, key)
        if self.loss_weights is not None and len(self.loss_weights) != len(self.losses):
            fix = f"One for each loss_type: {', '.join(self.losses)}."
            raise ConfigError(f"{key}.loss_weights", f"{len(self.loss_weights)} weights", fix)
        if "exo_pair" in self.losses and not self.label_smoothing:
            raise ConfigError(f"{key}.label_smoothing", "exo_pair needs one above 0", "For example 0.001.")
        if self.label_smoothing and not {"robust", "exo_pair"} & {*self.losses}:
            raise ConfigError(
                f"{key}.label_smoothing",
                f"{self.label_smoothing:g} means nothing to {' and '.join(self.losses)}",
                "Take loss_type: robust, which knows wrong preferences, or leave it out.",
            )

    def algorithm(self) -> "Algorithm":
        """DPO with this stage's keys."""
        return own_keys(Loss, self)
