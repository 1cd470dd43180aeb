"""A conversation with a model: its history, its settings, and what is done when it outgrows the context."""

import dataclasses
import json
from collections.abc import Callable, Generator
from typing import Any

import yaml

from runner.backends import Engine, Prompt
from runner.core import schema
from runner.core.errors import ConfigError
from runner.core.specs import Sampling, Template
from runner.core.types import Completion, Message


class Conversation:
    """messages: what was said so far, without a system prompt of the template's.

    A thought stays in the history as it was said; the chat template decides what the model sees of it later.
    seed: where `sampling` says none. judge: refuses sampling that the engine cannot do.
    """

    def __init__(
        self, engine: Engine, template: Template, sampling: Sampling, seed: int = 0,
        judge: Callable[[Sampling], object] = lambda sampling: None,
    ) -> None:  # fmt: skip
        self.engine, self.template, self.sampling, self.seed, self.judge = engine, template, sampling, seed, judge
        self.messages: list[Message] = []
        self.forgotten = 0  # messages that the last question pushed out of the context

    def ask(self, text: str) -> Generator[str | Completion]:
        """Stream the answer. Closing the iterator early keeps what was said until then."""
        before, said = list(self.messages), ""
        self.messages.append(Message("user", text))
        completion: Completion | None = None
        try:
            prompt = self._fitting()
            alone = dataclasses.replace(self.sampling, n=1)  # a conversation goes on from one answer
            seed = self.seed if self.sampling.seed is None else self.sampling.seed
            for piece in self.engine.stream(prompt, alone, seed + len(self.messages)):
                if isinstance(piece, Completion):
                    completion, said = piece, piece.text  # whole: a think block may be known only at its end
                else:
                    said += piece
                yield piece
        finally:
            if (completion is not None and completion.error) or not said:
                self.messages = before  # the question was not answered
            else:
                self.messages.append(Message("assistant", said))

    def _fitting(self) -> Prompt:
        """The prompt, its oldest exchanges left out until there is room for an answer."""
        wanted = min(self.sampling.max_new_tokens, self.engine.context // 4)
        self.forgotten = 0
        while True:
            prompt = self.engine.prompt(self.messages, self.template)
            if self.engine.room(prompt) >= wanted or len(self.messages) < 3:
                return prompt
            del self.messages[:2]
            self.forgotten += 2

    def clear(self) -> None:
        """Forget what was said."""
        self.messages = []

    def set_template(self, **keys: Any) -> None:
        """Change how the conversation becomes text, for example `thinking="off"`."""
        self.template = dataclasses.replace(self.template, **keys)

    def set_sampling(self, name: str, value: str) -> None:
        """Change a key of `sampling`; the value is read as YAML.

        Raises:
            ConfigError: no such key, or a value that it or the engine does not take.
        """
        try:
            read = yaml.safe_load(value)
            json.dumps(read)
        except yaml.YAMLError:
            raise ConfigError(f"sampling.{name}", f"{value!r} is no value of YAML", 'Such as 0.2 or ["a"].') from None
        except (TypeError, ValueError):  # a date, a set
            problem = f"{value!r} is neither text, number, list nor mapping"
            raise ConfigError(f"sampling.{name}", problem, f'As a text it has quotes: "{value}".') from None
        keys = {**schema.plain(self.sampling), name: read}
        wanted = schema.build(Sampling, keys, "sampling")
        self.judge(wanted)
        self.sampling = wanted
