"""What every engine can do: make a prompt, answer many, stream one, work off a feed."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from runner.backends._completion import Prompt
from runner.backends._completion import prompt as made_prompt
from runner.backends._feed import Ask, Feed, ListFeed
from runner.core.specs import Sampling, Template
from runner.core.types import Completion, Message

Finished = Callable[[int, list[Completion]], None]


class Engine(ABC):
    """What answers prompts.

    A prompt ends where the answer starts or goes on: a response_prefix at its end belongs to the answer.
    """

    context: int  # tokens that a prompt and its answer may have together
    tokenizer: Any

    def prompt(
        self, messages: Sequence[Message], template: Template, tools: Sequence[Mapping[str, Any]] = ()
    ) -> Prompt:
        """What is to be continued.

        Raises:
            DataError: the chat template does not take the conversation.
        """
        return made_prompt(self.tokenizer, messages, template, tools)

    def room(self, prompt: Prompt) -> int:
        """The tokens that the context leaves for an answer to this prompt; below 1 it cannot be answered."""
        return self.context - len(prompt.ids)

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
        answers: list[list[Completion]] = [[] for _ in prompts]

        def take(place: int, completions: list[Completion]) -> None:
            answers[place] = completions
            if finished is not None:
                finished(place, completions)

        asks = (Ask(place, prompt, seeds[place] if seeds else place) for place, prompt in enumerate(prompts))
        self.work(ListFeed(asks), sampling, take)
        return answers

    @abstractmethod
    def work(self, feed: Feed, sampling: Sampling, finished: Finished) -> None:
        """Answer prompts from a feed until it is over; what `generate` and replicas are made of.

        The feed's pulse is felt after every step: what it raises ends the work, and so does what `finished` raises.
        """

    @abstractmethod
    def stream(self, prompt: Prompt, sampling: Sampling, seed: int = 0) -> Iterator[str | Completion]:
        """Pieces of one answer as they come, the prefix first; the whole Completion last.

        An empty piece says that nothing has come yet, so that who listens may stop.
        """

    @abstractmethod
    def close(self) -> None:
        """Give memory, processes and connections back."""
