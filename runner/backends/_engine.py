"""What every engine can do: make a prompt, answer many, stream one, work off a feed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from runner.backends._completion import Prompt
from runner.backends._feed import Ask, Feed, ListFeed
from runner.core.specs import Sampling, Template
from runner.core.types import Completion, Message

Finished = Callable[[int, list[Completion]], None]


class Engine(Protocol):
    """What answers prompts.

    A prompt ends where the answer starts or goes on: a response_prefix at its end belongs to the answer.
    """

    context: int  # tokens that a prompt and its answer may have together

    def prompt(
        self, messages: Sequence[Message], template: Template, tools: Sequence[Mapping[str, Any]] = ()
    ) -> Prompt:
        """What is to be continued.

        Raises:
            DataError: the chat template does not take the conversation.
        """
        ...

    def room(self, prompt: Prompt) -> int:
        """The tokens that the context leaves for an answer to this prompt; below 1 it cannot be answered."""
        ...

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        seeds: Sequence[int] | None = None,
        finished: Finished | None = None,
    ) -> list[list[Completion]]:
        """`sampling.n` completions of each prompt, in the order of the prompts.

        seeds: one a prompt; the same seed, prompt and sampling give the same answer, whatever else is in the batch.
        finished: given the place of a prompt and its completions as soon as they are ready, in any order. What it
            raises ends the work.
        A prompt that cannot be answered gets completions whose finish_reason is "error".
        """
        ...

    def work(self, feed: Feed, sampling: Sampling, finished: Finished) -> None:
        """Answer prompts from a feed until it is over; what `generate` and replicas are made of.

        The feed's pulse is felt after every step: what it raises ends the work, and so does what `finished` raises.
        """
        ...

    def stream(self, prompt: Prompt, sampling: Sampling, seed: int = 0) -> Iterator[str | Completion]:
        """Pieces of one answer as they come, the prefix first; the whole Completion last."""
        ...

    def close(self) -> None:
        """Give memory, processes and connections back."""
        ...


def gather(
    engine: Engine,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    seeds: Sequence[int] | None,
    finished: Finished | None,
) -> list[list[Completion]]:
    """`Engine.generate` by way of `Engine.work`."""
    answers: list[list[Completion]] = [[] for _ in prompts]

    def take(place: int, made: list[Completion]) -> None:
        answers[place] = made
        if finished is not None:
            finished(place, made)

    asks = (Ask(place, prompt, seeds[place] if seeds else place) for place, prompt in enumerate(prompts))
    engine.work(ListFeed(asks), sampling, take)
    return answers
