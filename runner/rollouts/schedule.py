"""Which update learns from which rollout: prompts are planned as rows are, several updates share a rollout, and it may
be gone through several times. A pure function of the prompts, the seed and the keys.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from runner.core.specs import Batch
from runner.data.updates import UpdatePlan


@dataclass(frozen=True)
class Place:
    """rollout: from 0. part: which of the rollout's parts the update learns from. first: whether it begins it."""

    rollout: int
    part: int
    first: bool


@dataclass(frozen=True)
class Schedule:
    """The rollouts and updates of a training.

    prompts: how many there are. prompts_per_update: of one update. updates_per_rollout: parts of a rollout, an update
    each. num_iterations: how often the parts are gone through. max_updates: where it ends, whatever the epochs.
    """

    prompts: int
    prompts_per_update: int
    updates_per_rollout: int = 1
    num_iterations: int = 1
    seed: int = 42
    epochs: float = 1.0
    max_updates: int | None = None

    @cached_property
    def plan(self) -> UpdatePlan:
        """Prompts of each part, all parts one after the other."""
        most = None if self.max_updates is None else -(-self.max_updates // self.num_iterations)
        rows = range(self.prompts)
        batch = Batch(rows=self.prompts_per_update)
        return UpdatePlan([1] * self.prompts, rows, batch, self.seed, self.epochs, most)

    @cached_property
    def total(self) -> int:
        """Updates of the whole training."""
        made = self.plan.total * self.num_iterations
        return made if self.max_updates is None else min(made, self.max_updates)

    @property
    def digest(self) -> str:
        """Tells other prompts, batches and seeds apart."""
        return f"{self.plan.digest}-{self.updates_per_rollout}-{self.num_iterations}"

    def place(self, update: int) -> Place:
        """Where an update (from 0) stands."""
        rollout, within = divmod(update, self.updates_per_rollout * self.num_iterations)
        return Place(rollout, within % len(self.parts(rollout)), within == 0)

    def first(self, rollout: int) -> int:
        """The update that begins a rollout."""
        return rollout * self.updates_per_rollout * self.num_iterations

    def parts(self, rollout: int) -> list[tuple[int, ...]]:
        """The prompts of each part of a rollout; the last rollout may have fewer parts."""
        first = rollout * self.updates_per_rollout
        last = min(first + self.updates_per_rollout, self.plan.total)
        return [tuple(self.plan.update(number)) for number in range(first, last)]

    def epoch_after(self, update: int) -> float:
        """Epochs done once an update is."""
        place = self.place(update)
        return self.plan.epoch_after(place.rollout * self.updates_per_rollout + place.part)

    def reserve(self, rollout: int) -> Sequence[int]:
        """All other prompts in an order of the rollout's own: what dynamic sampling draws from."""
        import random

        taken = {prompt for part in self.parts(rollout) for prompt in part}
        others = [prompt for prompt in range(self.prompts) if prompt not in taken]
        random.Random(f"{self.seed}:reserve:{rollout}").shuffle(others)
        return others
