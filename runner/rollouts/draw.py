"""Asks prompts, so many answers to each, and has them scored; spread over devices answer by answer, then put together,
so that every device knows all groups.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from runner.core.errors import RunnerError, StageError
from runner.core.specs import Sampling
from runner.core.types import UNTRAINED, Completion
from runner.data.mismatch import first_trained
from runner.rollouts.answers import Answer, Group, Prompt
from runner.rollouts.sampler import Sampler, seed_of
from runner.scoring.arguments import keywords
from runner.scoring.rewards import Rewards

if TYPE_CHECKING:
    from runner.training.algorithm import Learner


@dataclass
class Clock:
    """Seconds of the phases of a rollout on this device."""

    sync: float = 0.0
    generate: float = 0.0
    score: float = 0.0


@dataclass(frozen=True)
class Drawing:
    """How groups are drawn. seed: of the run. own_share: of prompts that are asked; to the others the rows' own answers
    are taken. sampling: see `Sampler.answer`.
    """

    prompts: Sequence[Prompt]
    sampler: Sampler
    rewards: Rewards
    num_generations: int
    seed: int
    own_share: float = 1.0
    sampling: Sampling | None = None

    def groups(self, asked: Sequence[int], rollout: int | str, learner: "Learner", clock: Clock) -> list[Group]:
        """The groups of these prompts, in their order, scored.

        Raises:
            StageError: an engine or a reward failed, on whichever device.
        """
        pairs = [(prompt, sample) for prompt in asked for sample in range(self.num_generations)]
        args = learner.trainer.args
        mine = pairs[args.process_index :: args.world_size]
        try:
            found: Any = self._scored(self._answered(mine, rollout, learner, clock), clock, learner)
        except RunnerError as error:
            if args.world_size == 1:
                raise
            found = error
        by_prompt: dict[tuple[int, int], Answer] = {}
        for part in together(found, args.world_size):
            if isinstance(part, RunnerError):
                raise StageError(str(part))
            by_prompt |= {(one.prompt, one.sample): one for one in part}
        return [tuple(by_prompt[prompt, sample] for sample in range(self.num_generations)) for prompt in asked]

    def _answered(
        self, pairs: Sequence[tuple[int, int]], rollout: int | str, learner: "Learner", clock: Clock
    ) -> list[Answer]:
        start = time.monotonic()
        made: dict[int, Answer] = {}
        asked = [place for place, (prompt, _) in enumerate(pairs) if self._asks(prompt, rollout)]
        for place in set(range(len(pairs))) - set(asked):
            made[place] = self._given(*pairs[place])

        def take(number: int, completion: Completion) -> None:
            place = asked[number]
            prompt, sample = pairs[place]
            if completion.error:
                raise StageError(f"prompt {self.prompts[prompt].id}: {completion.error}.")
            seconds = round(time.monotonic() - start, 3)
            made[place] = Answer(prompt, sample, replace(completion, sample=sample), seconds)
            learner.stop_if_asked()

        seeds = [seed_of(self.seed, rollout, *pairs[place]) for place in asked]
        self.sampler.answer([self.prompts[pairs[place][0]] for place in asked], seeds, take, self.sampling)
        clock.generate += time.monotonic() - start
        return [made[place] for place in range(len(pairs))]

    def _asks(self, prompt: int, rollout: int | str) -> bool:
        """Whether the model answers a prompt itself."""
        return self.own_share >= 1.0 or seed_of(self.seed, "own", rollout, prompt) < self.own_share * 2**32

    def _given(self, prompt: int, sample: int) -> Answer:
        row = self.prompts[prompt]
        own = row.own
        assert own is not None, "a row without an answer is left out before"
        first = first_trained(own)
        mask = tuple(int(label != UNTRAINED) for label in own.labels[first:])
        length = len(own.input_ids) - first
        made = Completion(
            own.text.removeprefix(row.text),
            None,
            "stop",
            first,
            length,
            sample,
            tuple(own.input_ids[first:]),
            None,
            mask,
        )
        return Answer(prompt, sample, made, given=True)

    def _scored(self, answers: list[Answer], clock: Clock, learner: "Learner") -> list[Answer]:
        start = time.monotonic()
        made = scored(answers, self.prompts, self.rewards, learner.stop_if_asked)
        clock.score += time.monotonic() - start
        return made


def scored(
    answers: list[Answer], prompts: Sequence[Prompt], rewards: Rewards, waiting: Callable[[], None] = lambda: None
) -> list[Answer]:
    """The answers with the score of each reward and their weighted sum. waiting: see `Rewards.score`."""
    if not answers or not rewards.specs:
        return answers
    rows = [prompts[answer.prompt] for answer in answers]
    given = keywords(
        [row.columns for row in rows],
        messages=[list(row.messages) for row in rows],
        prompts=[words(row.messages) for row in rows],
        completion_ids=[list(answer.completion.token_ids) for answer in answers],
        finish_reason=[answer.completion.finish_reason for answer in answers],
    )
    scores = rewards.score([answer.completion.text for answer in answers], given, waiting)
    totals = rewards.total(scores)
    return [
        replace(answer, scores={name: values[place] for name, values in scores.items()}, total=totals[place])
        for place, answer in enumerate(answers)
    ]


def words(messages: Sequence[Mapping[str, Any]]) -> str:
    """A prompt as rewards get it under `prompts`."""
    return "\n".join(str(message["content"]) for message in messages)


def together(found: Any, world: int) -> list[Any]:
    """What each device has found."""
    if world == 1:
        return [found]
    import torch

    parts: list[Any] = [None] * world
    torch.distributed.all_gather_object(parts, found)
    return parts
