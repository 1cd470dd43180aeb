"""The state of all random number generators of this process, to go back to the begin of an update that was dropped."""

import random
from dataclasses import dataclass, field
from typing import Any

import numpy
import torch


def _on_gpus() -> list[torch.Tensor]:
    return torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []


@dataclass(frozen=True)
class RandomState:
    """Taken when it is made."""

    python: Any = field(default_factory=random.getstate)
    numpy: Any = field(default_factory=numpy.random.get_state)
    cpu: torch.Tensor = field(default_factory=torch.get_rng_state)
    gpus: list[torch.Tensor] = field(default_factory=_on_gpus)

    def restore(self) -> None:
        """Go back to it."""
        random.setstate(self.python)
        numpy.random.set_state(self.numpy)
        torch.set_rng_state(self.cpu)
        if self.gpus:
            torch.cuda.set_rng_state_all(self.gpus)
