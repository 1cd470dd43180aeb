"""Evaluation of a training on sampled answers: prompts kept aside are answered by the weights of the moment and scored.

The answers go into evaluations.jsonl. Nothing of it reaches the training: the random state is set back to how it was,
and the same prompts are asked with the same seeds each time. Where an algorithm learns something other than rewards (a
teacher's probabilities), its loss on these answers is told too.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.core.types import Encoded
from runner.data.collate import MicroBatch, trained
from runner.rollouts import store
from runner.rollouts.answers import Answer, Group
from runner.rollouts.draw import Clock, Drawing
from runner.rollouts.figures import mean
from runner.scoring.intervals import interval
from runner.training.algorithm import Algorithm
from runner.training.evaluation import Evaluation
from runner.training.planned import Cutting

if TYPE_CHECKING:
    from runner.training.algorithm import Learner

FILE = "evaluations.jsonl"
Told = Callable[[Sequence[Encoded], "Learner"], Sequence[Encoded]]


class HeldOut(Evaluation):
    """See `Evaluation`. drawing: over the prompts kept aside. folder: the stage's. losses: whether the algorithm's loss
    tells something of its own. told: what the algorithm must know besides of sequences. first: whether this process
    writes for all devices.
    """

    def __init__(
        self, drawing: Drawing, folder: Path, algorithm: Algorithm, cutting: Cutting, *, losses: bool = False,
        told: Told | None = None, first: bool = True,
    ) -> None:  # fmt: skip
        super().__init__([], [], algorithm, cutting)
        self.drawing, self.file, self.losses, self.told, self.first = drawing, folder / FILE, losses, told, first
        self._loss = Evaluation([], [], algorithm, cutting)
        self._judged: dict[str, Any] = {}
        self._begun = False

    def begin(self, learner: "Learner") -> None:
        """Ask, score and write down."""
        from runner.training._random_state import RandomState

        before, clock = RandomState(), Clock()
        try:
            self.drawing.sampler.begin(learner)
            try:
                groups = self.drawing.groups(range(len(self.drawing.prompts)), "evaluation", learner, clock)
            finally:
                self.drawing.sampler.end(learner)
        finally:
            before.restore()
        if self.losses:
            self._ready(groups, learner)
        if self.first:
            self._write(groups, learner.trainer.state.global_step)
        self._judged = figures(groups)

    def _ready(self, groups: Sequence[Group], learner: "Learner") -> None:
        """Make the answers sequences that the loss is measured on."""
        answers = [answer for group in groups for answer in group]
        sequences: Sequence[Encoded] = [one.encoded(self.drawing.prompts[one.prompt]) for one in answers]
        kept = [place for place, sequence in enumerate(sequences) if trained(sequence)]
        sequences = [sequences[place] for place in kept]
        sequences = sequences if self.told is None else self.told(sequences, learner)
        self._loss = Evaluation(sequences, [answers[place].prompt for place in kept], self.algorithm, self.cutting)

    def _write(self, groups: Sequence[Group], update: int) -> None:
        if not self._begun:  # what a training that was killed wrote after its last checkpoint
            store.cut_back(self.file, update - 1)
            self._begun = True
        prompts = self.drawing.prompts
        store.append(self.file, (line(update, one, prompts[one.prompt]) for group in groups for one in group))

    @property
    def totals(self) -> Mapping[str, float]:
        """Of the answers of this moment."""
        return self._loss.totals

    def __len__(self) -> int:
        return len(self._loss)

    def __iter__(self) -> Iterator[MicroBatch]:
        return iter(self._loss)

    @property
    def judged(self) -> Mapping[str, Any]:
        """Rewards and lengths; see `figures`."""
        return self._judged

    @property
    def figures(self) -> dict[str, int]:
        """How much was asked and answered."""
        asked = len(self.drawing.prompts)
        return {"eval_rows": asked, "eval_answers": asked * self.drawing.num_generations}


def line(update: int, answer: Answer, prompt: Any) -> dict[str, Any]:
    """A line of evaluations.jsonl: one of completions.jsonl without what is learned from it. update: after which."""
    made = store.line(update, answer, prompt)
    return {name: value for name, value in made.items() if name not in ("advantage", "masked", "given")}


def figures(groups: Sequence[Group]) -> dict[str, Any]:
    """The figures of an evaluation, named as those of a rollout are; low and high bound 95% of what is likely.

    A prompt counts once: bounds are over the means of prompts, since answers to the same one are not independent.
    """
    answers = [answer for group in groups for answer in group]
    lengths = [float(answer.completion.completion_tokens) for answer in answers]
    made: dict[str, Any] = {}
    names = list(dict.fromkeys(name for answer in answers for name in answer.scores))
    if names:
        made = _spread("eval_reward", "eval_reward", [[one.total for one in group] for group in groups])
    for name in names:
        scores = [[one.scores.get(name) for one in group] for group in groups]
        made |= _spread(f"eval_rewards/{name}/mean", f"eval_rewards/{name}", scores)
    if names:
        made["eval_unscored"] = sum(answer.total is None for answer in answers)
    return {
        **made,
        "eval_completions/mean_length": mean(lengths),
        "eval_completions/max_length": max(lengths, default=0.0),
        "eval_completions/clipped_ratio": mean([float(answer.truncated) for answer in answers]),
    }


def _spread(middle: str, around: str, groups: Sequence[Sequence[float | None]]) -> dict[str, float | None]:
    """The mean of prompts that have a score, and its bounds."""
    scored = [[score for score in group if score is not None] for group in groups]
    known = [group for group in scored if group]
    found = mean([sum(group) / len(group) for group in known])
    if found is None:
        return {middle: None}
    sep = "_" if middle == around else "/"
    low, high = interval(known)
    return {middle: found, f"{around}{sep}low": low, f"{around}{sep}high": high}
