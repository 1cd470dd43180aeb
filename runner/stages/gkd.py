"""Distillation on the student's own answers: a teacher says how likely each of their tokens should have been (GKD).

The teacher is a model in this process, or one behind a vLLM server, of whose words the likeliest are known.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Interval

from runner.core import address
from runner.core.artifact import Artifact
from runner.core.errors import ConfigError, ModelError
from runner.core.job import Job
from runner.core.schema import component
from runner.core.specs import Count, Model
from runner.rollouts.teacher import KEY, Teacher, TeacherServer
from runner.stages._sampled import Sampled, beside

if TYPE_CHECKING:
    from runner.rollouts.sampler import Sampler
    from runner.rollouts.updates import Rules
    from runner.training.algorithm import Algorithm


@component
class Gkd(Sampled):
    """Generalized knowledge distillation. teacher: a model with the same vocabulary: a hub id, a folder, `stage:NAME`.

    teacher_server: where the teacher is, if not here (rollouts/teacher.py); `teacher` is its name there then, and beta
    below 1: the reverse divergence weighs words by the student's word, and of those nobody knows the teacher's.
    lmbda: share of prompts whose answers the student samples; to the others the data's own are taken. beta: 0 for the
    forward divergence, 1 for the reverse, between them a mixture. Rewards are only told where they are given. Names as
    in TRL's GKDConfig.
    """

    teacher: Model
    teacher_server: TeacherServer | None = None
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
        if self.teacher_server is None:
            check_model(self.teacher, f"{key}.teacher")
            return
        address.check(self.teacher_server.base_url, f"{key}.teacher_server.base_url")
        if self.teacher_server.tokenizer is not None:
            check_model(Model(id=self.teacher_server.tokenizer), f"{key}.teacher_server.tokenizer")
        if self.beta == 1:
            raise ConfigError(
                f"{key}.beta", "1 needs what the teacher gives to every word that the student may say, and a server "
                f"tells its {self.teacher_server.top_k} likeliest", "Take 0.9 or less, or a teacher in this process.",
            )  # fmt: skip
        if self.sampling.temperature not in (None, 1.0):
            raise ConfigError(
                f"{key}.sampling.temperature", f"{self.sampling.temperature:g}, and a server tells the teacher's "
                "probabilities at 1", "Take 1.0, or a teacher in this process.",
            )  # fmt: skip

    def summary(self) -> Iterator[str]:
        """See `Sampled.summary`."""
        yield from super().summary()
        where = f" at {self.teacher_server.base_url}" if self.teacher_server else ""
        yield f"teacher  {self.teacher.id}{where}; {self.lmbda:.0%} of the prompts answered by the student itself"

    def companions(self) -> dict[str, Model]:
        """See `Sampled.companions`."""
        return {} if self.teacher_server else {"the teacher": self.teacher}

    @property
    def own_share(self) -> float:
        """Share of prompts that the model answers itself."""
        return self.lmbda

    def run(self, job: Job) -> Artifact:
        """See `Sampled.run`; first of all the teacher's server must be there."""
        if self.teacher_server is not None:
            self.teacher_server.meet(self.teacher.id).client.close()
        return super().run(job)

    def algorithm(self, tokenizer: Any, hub: str, prepared: Any) -> "Algorithm":
        """See algorithms/gkd.py; a teacher that is here is loaded and frozen.

        Raises:
            ModelError: a teacher of another vocabulary.
        """
        from runner.algorithms.gkd import Gkd as Loss
        from runner.models.load import load_tokenizer, tokenizer_of
        from runner.models.locate import locate

        server, ours = self.teacher_server, tokenizer.get_vocab()
        if server is not None:
            theirs = tokenizer_of(server.tokenizer or self.teacher.id, hub, f"{KEY}.tokenizer", chat=False)
            self._agree(theirs.get_vocab(), ours)
            return Loss(beta=self.beta)
        located = locate(self.teacher, hub)
        self._agree(load_tokenizer(located, chat=False).get_vocab(), ours)
        frozen = beside(located, replace(self.teacher, attention=self.model.attention))  # the same batches
        return Loss(teacher=frozen, beta=self.beta, temperature=self.sampling.temperature or 1.0)

    def _agree(self, theirs: dict[str, int], ours: dict[str, int]) -> None:
        if theirs == ours:
            return
        other = next((word for word, number in ours.items() if theirs.get(word) != number), "")
        raise ModelError(
            f"teacher: {self.teacher.id} has another vocabulary than {self.model.id} ({len(theirs)} tokens, not "
            f"{len(ours)}; {other!r} is {theirs.get(other)} and {ours.get(other)}), so probabilities cannot be "
            "compared. Take a teacher of the same family, or distil its answers: +recipe=distill."
        )

    def rules(self, sampler: "Sampler", reference: Any, tokenizer: Any) -> "Rules":
        """Every answer teaches."""
        from runner.rollouts.updates import Rules

        told = None
        if self.teacher_server is not None:
            met = self.teacher_server.meet(self.teacher.id)
            told = Teacher(self.teacher_server, self.teacher.id, tokenizer, met).told
        return Rules(weighed=False, max_idle=self.max_idle, told=told)
