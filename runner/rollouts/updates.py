"""Updates of a training on answers that the model samples itself: when a rollout is due they are drawn by the weights
of that moment, scored, weighed against each other, and cut for the updates that learn from them.

Refuses to go on where nothing is learned for long. A rollout is written down before the first update learns from it.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from runner.core.errors import StageError
from runner.core.types import Encoded
from runner.rollouts import advantages, figures
from runner.rollouts.alerts import Alerts
from runner.rollouts.answers import Answer, Group, Rollout
from runner.rollouts.correction import Correction, factors
from runner.rollouts.draw import Clock, Drawing, together
from runner.rollouts.gae import Gae
from runner.rollouts.say import FILE as ALERTS
from runner.rollouts.schedule import Schedule
from runner.rollouts.store import Store
from runner.training import checkpoints
from runner.training.algorithm import Algorithm
from runner.training.ledger import cut_back
from runner.training.planned import Cutting, UpdateBatch, batch

if TYPE_CHECKING:
    from runner.training.algorithm import Learner


@dataclass(frozen=True)
class Rules:
    """What is made of scored answers.

    weighed: whether answers learn by how good they are; else all do alike. estimator: relative to the group's mean, or
    to that of the others. scale_rewards: what a difference is divided by.
    mask_truncated: answers that were cut off carry no loss. truncated_count: but they do count in the group's mean.
    resample: how often dynamic sampling draws again, 0 for never. old: whether the model's own log-probabilities are
    needed. reference: the model that a divergence is measured from, "base" for the one under the adapter. penalty:
    weight of an answer's divergence in its worth. gae: gains of single tokens, by a critic. max_idle: rollouts in a row
    from which nothing could be learned. told: what the algorithm must know besides of the sequences of an update, as
    from a teacher behind a server.
    """

    weighed: bool = True
    estimator: str = "relative"
    scale_rewards: advantages.Scale = "group"
    mask_truncated: bool = False
    truncated_count: bool = True
    resample: int = 0
    old: bool = False
    penalty: float = 0.0
    correction: Correction = "none"
    correction_max: float | None = 3.0
    correction_min: float | None = None
    reference: Any = None
    max_idle: int = 50
    gae: Gae | None = None
    told: "Callable[[Sequence[Encoded], Learner], Sequence[Encoded]] | None" = None

    def mask(self, groups: Sequence[Group]) -> list[Group]:
        """The groups with masks on what was cut off."""
        if not self.mask_truncated:
            return list(groups)
        return [tuple(replace(answer, masked=answer.truncated) for answer in group) for group in groups]

    def weigh(self, groups: Sequence[Group]) -> list[Group]:
        """The groups with advantages."""
        if self.gae is not None:
            return self.gae.weigh(groups)
        totals = [[self._worth(answer) for answer in group] for group in groups]
        if self.estimator == "leave_one_out":
            made = advantages.leave_one_out(totals)
        else:
            left_out = None if self.truncated_count else [[answer.truncated for answer in group] for group in groups]
            made = advantages.relative(totals, self.scale_rewards, left_out)
        return [
            tuple(replace(answer, advantage=value) for answer, value in zip(group, values, strict=True))
            for group, values in zip(groups, made, strict=True)
        ]

    def _worth(self, answer: Answer) -> float | None:
        if answer.total is None or not self.penalty:
            return answer.total
        return answer.total - self.penalty * sum(a - b for a, b in zip(answer.old, answer.reference, strict=False))


@dataclass
class RolloutUpdates:
    """See `LiveUpdates`."""

    schedule: Schedule
    drawing: Drawing
    rules: Rules
    algorithm: Algorithm
    cutting: Cutting
    store: Store
    alerts: Alerts
    first: bool = True  # whether this process writes and speaks for all devices
    _held: Rollout | None = None
    _idle: int = 0
    _clock: Clock = field(default_factory=Clock)

    @property
    def digest(self) -> str:
        """See `LiveUpdates`."""
        return f"{self.schedule.digest}-{self.store.mark}"

    def __len__(self) -> int:
        return self.schedule.total

    def make(self, number: int, learner: "Learner") -> UpdateBatch:
        """See `LiveUpdates`."""
        place = self.schedule.place(number)
        made = self._rollout(place.rollout, not place.first, learner)
        groups = made.parts[place.part] if place.part < len(made.parts) else ()
        prompts = self.drawing.prompts
        sequences: Sequence[Encoded] = [one.encoded(prompts[one.prompt]) for group in groups for one in group]
        if self.rules.told is not None:
            sequences = self.rules.told(sequences, learner)
        answers = [answer for group in groups for answer in group]
        active = [i for i, answer in enumerate(answers) if self._learns(answer)]
        idle = [i for i in range(len(answers)) if i not in set(active)]
        cut = batch(
            number, active, sequences, [answer.prompt for answer in answers], self.algorithm, self.cutting,
            self.schedule.epoch_after(number), idle,
        )  # fmt: skip
        return replace(cut, figures=made.figures if place.first else _later(made.figures))

    def _learns(self, answer: Answer) -> bool:
        """Whether an answer has a gradient; where a divergence counts, each has."""
        held = bool(getattr(self.algorithm, "beta", 0.0)) and self.rules.gae is None
        return self._teaches(answer) or (held and _trained(answer))

    def _compares(self, group: Group) -> bool:
        """Whether a group teaches something else than to stay near the reference, which may be part of the worth."""
        same = self.rules.penalty and not advantages.usable([answer.total for answer in group])
        return not same and any(map(self._teaches, group))

    def _teaches(self, answer: Answer) -> bool:
        """Whether what is to be learned can be learned from an answer, whatever it is held to besides."""
        if self.rules.gae is not None:
            return _trained(answer) and bool(answer.gains)
        return _trained(answer) and (bool(answer.advantage) or not self.rules.weighed)

    def _rollout(self, number: int, amid: bool, learner: "Learner") -> Rollout:
        if self._held is not None and self._held.number == number:
            return self._held
        begins = self._held is None
        first = self.schedule.first(number)
        if begins and self.first:
            self.store.cut_back(first)
            cut_back(self.store.folder / ALERTS, first)
            self.store.forget(number + 1)
            for update, known in self.store.noted():
                self.alerts.look(known, {}, update, aloud=False)
        made = self.store.kept(number) if begins else None
        if made is None:
            if amid and self.first:
                print(
                    f"rollout {number} is not there any more: its answers are sampled anew, by later weights",
                    flush=True,
                )
            made = self._draw(number, learner)
            if self.first:
                self.store.keep(made)
        if self.first:
            self.store.write(first + 1, made, self.drawing.prompts)
            oldest = min((one.update for one in checkpoints.complete(self.store.folder)), default=0)
            self.store.forget(0, self.schedule.place(oldest).rollout if oldest < len(self) else number)
        self._held = made
        self._judge(made, learner)
        return made

    def _draw(self, number: int, learner: "Learner") -> Rollout:
        clock, parts = Clock(), self.schedule.parts(number)
        asked = [prompt for part in parts for prompt in part]
        memory = _on_gpu("learning") if self._held is not None else {}  # of the updates since the last rollout
        begun = time.monotonic()
        self.drawing.sampler.begin(learner)
        clock.sync = time.monotonic() - begun
        try:
            groups = self.drawing.groups(asked, number, learner, clock)
            drawn = len(groups)
            if self.rules.resample:
                groups, drawn = self._usable(groups, number, learner, clock)
        finally:
            memory |= _on_gpu("sampling")
            ended = time.monotonic()
            self.drawing.sampler.end(learner)
            clock.sync += time.monotonic() - ended
        start = time.monotonic()
        groups = self.rules.weigh(self._known(self.rules.mask(groups), learner))
        known = figures.facts(groups)
        told = figures.logged(groups, known) | {
            "seconds_sync": clock.sync,
            "seconds_generate": clock.generate,
            "seconds_score": clock.score,
            "seconds_logprobs": time.monotonic() - start,
            "drawn": float(drawn),
            **memory,
        }
        return Rollout(number, _dealt(groups, [len(part) for part in parts]), told, drawn)

    def _usable(
        self, groups: Sequence[Group], number: int, learner: "Learner", clock: Clock
    ) -> tuple[list[Group], int]:
        """Groups that tell better from worse, as many as were wanted where so many are found in time. Where none is,
        those that were drawn first, so that figures and completions.jsonl show why.
        """
        wanted, reserve, drawn = len(groups), list(self.schedule.reserve(number)), len(groups)
        kept = [group for group in groups if self._tells(group)]
        for _ in range(self.rules.resample):
            more = reserve[: wanted - len(kept)]
            reserve = reserve[len(more) :]
            if not more:
                break
            drawn += len(more)
            kept += [group for group in self.drawing.groups(more, number, learner, clock) if self._tells(group)]
        if len(kept) < wanted and self.first:
            print(f"dynamic sampling: {len(kept)} of {wanted} groups with a spread, after {drawn} prompts", flush=True)
        return kept or list(groups), drawn

    def _tells(self, group: Group) -> bool:
        return any(answer.advantage is not None for answer in self.rules.weigh([group])[0])

    def _known(self, groups: Sequence[Group], learner: "Learner") -> list[Group]:
        """The groups with what the algorithm must know of each token."""
        answers = [answer for group in groups for answer in group]
        rules, sequences = self.rules, list[Encoded]()
        if rules.old or rules.gae is not None or rules.reference is not None:
            sequences = [answer.encoded(self.drawing.prompts[answer.prompt]) for answer in answers]
        if rules.correction != "none" and not rules.old:  # made with the loss, whose pass is the first by these weights
            known = any(math.isfinite(value) for answer in answers for value in answer.sampled)
            answers = [replace(one, told=known and not one.masked) for one in answers]
        elif rules.old:
            told = learner.logprobs(sequences)
            answers = [replace(answer, old=tuple(old)) for answer, old in zip(answers, told, strict=True)]
        if rules.correction != "none" and rules.old:
            answers = [replace(answer, correction=self._factors(answer)) for answer in answers]
        if rules.gae is not None:
            told = learner.logprobs(sequences, values=self.algorithm.critic)  # type: ignore[attr-defined]
            answers = [replace(answer, values=tuple(one)) for answer, one in zip(answers, told, strict=True)]
        if rules.reference is not None:
            told = learner.logprobs(sequences, rules.reference)
            answers = [replace(answer, reference=tuple(one)) for answer, one in zip(answers, told, strict=True)]
        left = iter(answers)
        return [tuple(next(left) for _ in group) for group in groups]

    def _factors(self, answer: Answer) -> tuple[float, ...]:
        rules = self.rules
        if not answer.old:  # masked
            return ()
        return tuple(factors(rules.correction, answer.old, answer.sampled, rules.correction_max, rules.correction_min))

    def _judge(self, made: Rollout, learner: "Learner") -> None:
        """Alerts, and the end where nothing is learned for long."""
        known = figures.facts(made.groups)
        before = learner.figures  # of the update before, where the loss tells it
        known = replace(known, left_out=before.get("correction_left_out"))
        if known.mismatch is None:
            known = replace(known, mismatch=before.get("sampling_mismatch"))
        fared = self._fared(learner)
        if self.first:
            update = self.schedule.first(made.number) + 1
            self.alerts.look(known, fared, update)
            self.store.note(update, known)
        self._idle = 0 if any(map(self._compares, made.groups)) else self._idle + 1
        if self._idle >= self.rules.max_idle:
            raise StageError(_nothing(self._idle, made.groups, known))

    def _fared(self, learner: "Learner") -> dict[str, tuple[int, int]]:
        """Of each reward the last answers that it was asked and those on which it failed, on all devices."""
        own = {name: tally.recent() for name, tally in self.drawing.rewards.tallies.items()}
        parts = together(own, learner.trainer.args.world_size)
        return {name: (sum(part[name][0] for part in parts), sum(part[name][1] for part in parts)) for name in own}


def _trained(answer: Answer) -> bool:
    return not answer.masked and any(answer.completion.mask)


def _nothing(idle: int, groups: Sequence[Group], known: figures.Facts) -> str:
    """Why nothing was learned for so many rollouts, as far as the last one tells."""
    answers = [answer for group in groups for answer in group]
    masked = sum(answer.masked for answer in answers)
    if answers and masked == len(answers):
        return (
            f"{idle} rollouts in a row taught nothing: all {masked} answers of the last one were cut off, and "
            "mask_truncated_completions takes those out. Raise sampling.max_new_tokens, or take "
            "mask_truncated_completions=false."
        )
    reward = "unknown" if known.reward is None else format(known.reward, ".3g")
    return (
        f"{idle} rollouts in a row had no group whose answers differ in reward (mean reward {reward}), so nothing can "
        "be learned. Look at completions.jsonl: the reward may not fit the answers, or the prompts be too hard or too "
        "easy."
    )


def _on_gpu(phase: str) -> dict[str, float]:
    """GiB of the GPU that are taken now, by the training and an engine together: what the phase that ends has needed,
    as the training keeps what it took until a rollout begins.
    """
    import torch

    if not torch.cuda.is_available():
        return {}
    free, total = torch.cuda.mem_get_info()
    return {f"gpu_gib_{phase}": round((total - free) / 2**30, 2)}


def _dealt(groups: Sequence[Group], sizes: Sequence[int]) -> tuple[tuple[Group, ...], ...]:
    """The groups in order as parts of these sizes, the last ones smaller where groups are missing."""
    made, left = [], list(groups)
    for size in sizes:
        made.append(tuple(left[:size]))
        left = left[size:]
    return tuple(made)


def _later(told: Any) -> dict[str, float]:
    """The figures of a rollout for updates after its first: its seconds were spent already."""
    return {name: 0.0 if name.startswith("seconds_") else value for name, value in told.items()}
