"""Distillation on the student's own answers: a teacher says how likely each of their tokens should have been (GKD)."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Interval

from runner.core.errors import ModelError
from runner.core.schema import component
from runner.core.specs import Count, Model
from runner.stages._sampled import Sampled, beside

if TYPE_CHECKING:
    from runner.rollouts.sampler import Sampler
    from runner.rollouts.updates import Rules
    from runner.training.algorithm import Algorithm


@component
class Gkd(Sampled):
    """Generalized knowledge distillation. teacher: a model with the same vocabulary: a hub id, a folder, `stage:NAME`.

    lmbda: share of prompts whose answers the student samples; to the others the data's own are taken. beta: 0 for the
    forward divergence, 1 for the reverse, between them a mixture. Rewards are only told where they are given. Names as
    in TRL's GKDConfig.
    """

    teacher: Model
    lmbda: Annotated[float, Interval(ge=0.0, le=1.0)] = 0.5
    beta: Annotated[float, Interval(ge=0.0, le=1.0)] = 0.5
    num_generations: Count = 1
    accepts: ClassVar[dict[str, tuple[str, ...]]] = {
        "model": ("model", "adapter"),
        "teacher": ("model", "adapter"),
        "mix": ("completions",),
    }
    rates: ClassVar[tuple[float, float]] = (1e-4, 1e-5)
    compares: ClassVar[bool] = False
    losses: ClassVar[bool] = True

    def check(self, roots: Sequence[Path], key: str) -> None:
        """See `Sampled.check`; a teacher that is not there."""
        from runner.models.locate import check as check_model

        super().check(roots, key)
        check_model(self.teacher, f"{key}.teacher")

    def summary(self) -> Iterator[str]:
        """See `Sampled.summary`."""
        yield from super().summary()
        yield f"teacher  {self.teacher.id}; {self.lmbda:.0%} of the prompts answered by the student itself"

    @property
    def own_share(self) -> float:
        """Share of prompts that the model answers itself."""
        return self.lmbda

    def algorithm(self, tokenizer: Any, hub: str, prepared: Any) -> "Algorithm":
        """See algorithms/gkd.py; the teacher is loaded and frozen.

        Raises:
            ModelError: a teacher of another vocabulary.
        """
        from runner.algorithms.gkd import Gkd as Loss
        from runner.models.load import load_tokenizer
        from runner.models.locate import locate

        located = locate(self.teacher, hub)
        theirs = load_tokenizer(located, chat=False).get_vocab()
        ours = tokenizer.get_vocab()
        if theirs != ours:
            other = next((word for word, number in ours.items() if theirs.get(word) != number), "")
            raise ModelError(
                f"teacher: {self.teacher.id} has another vocabulary than {self.model.id} ({len(theirs)} tokens, not "
                f"{len(ours)}; {other!r} is {theirs.get(other)} and {ours.get(other)}), so probabilities cannot be "
                "compared. Take a teacher of the same family, or distil its answers: +recipe=distill."
            )
        teacher = beside(located, dataclasses.replace(self.teacher, attention=self.model.attention))  # the same batches
        return Loss(teacher=teacher, beta=self.beta, temperature=self.sampling.temperature or 1.0)

    def rules(self, sampler: "Sampler", reference: Any) -> "Rules":
        """Every answer teaches."""
        from runner.rollouts.updates import Rules

        return Rules(weighed=False, max_idle=self.max_idle)
