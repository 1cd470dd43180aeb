"""Answers from a server that speaks OpenAI's interface: vLLM, SGLang, llama.cpp, or a paid one. `model.id` is the name
that the server knows; `backend.engine.base_url` says where it is. Requests go out side by side, bounded, and are
repeated with growing waits; a prompt that the server refuses costs that prompt only.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from runner.backends import _completion, _endpoint
from runner.backends._engine import Finished, gather
from runner.backends._feed import Ask, Feed
from runner.core import schema
from runner.core.errors import ConfigError, StageError
from runner.core.specs import Backend, Model, Sampling, Template
from runner.core.types import Completion, Message


class Openai:
    """A client of one server, and the tokenizer where prompts are made here."""

    def __init__(self, backend: Backend, model: Model, hub: str) -> None:
        self.keys = self.check(backend)
        try:
            import openai
        except ImportError:
            raise ConfigError("backend.name", "openai needs the package openai", "pip install openai") from None
        self.errors, self.name = openai, model.id
        self.client: Any = openai.OpenAI(
            base_url=self.keys.base_url,
            api_key=os.environ.get(self.keys.key_env) or "none",
            max_retries=self.keys.retries,
            timeout=self.keys.timeout,
        )
        self.tokenizer = _tokenizer(self.keys.tokenizer or model.id, hub) if self.keys.sends_ids else None
        self.context = self._context()

    @staticmethod
    def check(backend: Backend) -> _endpoint.Endpoint:
        """The keys of `backend.engine`.

        Raises:
            ConfigError: an unknown or missing one.
        """
        return schema.build(_endpoint.Endpoint, backend.engine, "backend.engine")

    def _context(self) -> int:
        """How long the model's context is; asking tells whether the server is there, takes the key, knows the model.

        Raises:
            StageError: nothing answers. ConfigError: another key or another name is needed.
        """
        try:
            models = list(self.client.with_options(timeout=20, max_retries=2).models.list())
        except self.errors.AuthenticationError:
            fix = f"Put it into the environment variable {self.keys.key_env}."
            raise ConfigError("backend.engine.key_env", f"{self.keys.base_url} refuses the key", fix) from None
        except self.errors.APIConnectionError as error:
            reason = str(error.__cause__ or error).rstrip(".")
            raise StageError(
                f"backend.engine.base_url: no server answers at {self.keys.base_url} ({reason})."
            ) from None
        except self.errors.APIStatusError:
            return 1 << 30  # a server without a list of models
        known = {model.id: model for model in models}
        if known and self.name not in known:
            raise ConfigError(
                "model.id", f"the server has no model {self.name!r}", f"It has: {', '.join(sorted(known))}."
            )
        return int(getattr(known.get(self.name), "max_model_len", None) or 1 << 30)

    def prompt(self, messages: Sequence[Message], template: Template, tools: Sequence[Mapping[str, Any]] = ()) -> str:
        """The text to be continued, or the conversation as JSON where the server renders it."""
        if self.tokenizer is None:
            return _endpoint.messages_text(messages, template, tools)
        from runner.data.render import prompt_text

        return prompt_text(self.tokenizer, messages, template, tools)

    def room(self, prompt: str) -> int:
        """See `Engine.room`; unknown, and then large, without a tokenizer."""
        return self.context - (len(self._encode(prompt)) if self.tokenizer is not None else 0)

    def generate(
        self,
        prompts: Sequence[str],
        sampling: Sampling,
        prefix: str = "",
        seeds: Sequence[int] | None = None,
        finished: Finished | None = None,
    ) -> list[list[Completion]]:
        """See `Engine.generate`; the seeds are the server's to follow."""
        return gather(self, prompts, sampling, prefix, seeds, finished)

    def work(self, feed: Feed, sampling: Sampling, prefix: str, finished: Finished) -> None:
        """See `Engine.work`."""
        running: dict[Future[list[Completion]], int] = {}
        pool = ThreadPoolExecutor(self.keys.concurrency)
        try:
            while True:
                for ask in feed.take(self.keys.concurrency - len(running), wait=not running):
                    running[pool.submit(self._answer, ask, sampling, prefix)] = ask.place
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    finished(running.pop(future), future.result())
        finally:
            pool.shutdown(wait=not running, cancel_futures=True)

    def _answer(self, ask: Ask, sampling: Sampling, prefix: str) -> list[Completion]:
        """All samples of a prompt: a request each, so that each has its seed and its counts."""
        read = self._read(ask.prompt, prefix)
        made: list[Completion] = []
        for sample in range(sampling.n):
            try:
                reply = self._send(ask.prompt, read, sampling, prefix, ask.seed + sample)
            except self.errors.AuthenticationError:
                raise StageError(f"backend.engine.key_env: {self.keys.base_url} refuses the key.") from None
            except self.errors.APIError as error:
                made.append(_completion.failure(read, str(error), sample))
                continue
            choice = reply.choices[0]
            text = _endpoint.said(choice.message) if self.tokenizer is None else choice.text
            logprobs = _logprobs(choice) if sampling.logprobs else None
            made.append(_endpoint.completion(read, text, choice.finish_reason, reply.usage, sample, logprobs))
        return made

    def _read(self, prompt: str, prefix: str) -> _completion.Prompt:
        if self.tokenizer is None:
            return _completion.Prompt((), 0, prefix)
        return _completion.read(prompt, prefix, self._encode)

    def _send(
        self, prompt: str, read: _completion.Prompt, sampling: Sampling, prefix: str, seed: int, stream: bool = False
    ) -> Any:
        keys = _endpoint.sampling_keys(sampling, seed, self.keys.extra)
        if stream:
            keys |= {"stream": True, "stream_options": {"include_usage": True}}
        if self.tokenizer is None:
            own = _endpoint.chat_keys(prompt, prefix)
            body = {**keys.pop("extra_body"), **own.pop("extra_body")}
            keys |= {"logprobs": True} if sampling.logprobs else {}
            return self.client.chat.completions.create(model=self.name, **keys, **own, extra_body=body)
        keys |= {"logprobs": 0} if sampling.logprobs else {}
        return self.client.completions.create(model=self.name, prompt=list(read.ids), **keys)

    def stream(self, prompt: str, sampling: Sampling, prefix: str = "", seed: int = 0) -> Iterator[str | Completion]:
        """See `Engine.stream`."""
        read = self._read(prompt, prefix)
        if read.prefix:
            yield read.prefix
        text, reason, usage, pieces = "", None, None, _endpoint.Pieces()
        try:
            with self._send(prompt, read, sampling, prefix, seed, stream=True) as reply:
                for event in reply:
                    usage = event.usage or usage
                    for choice in event.choices:
                        piece = pieces.add(choice.delta) if self.tokenizer is None else choice.text
                        reason, text = choice.finish_reason or reason, text + piece
                        if piece:
                            yield piece
        except self.errors.APIError as error:
            yield _completion.failure(read, str(error))
            return
        yield _endpoint.completion(read, text, reason, usage, 0, None)

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def _encode(self, text: str) -> list[int]:
        assert self.tokenizer is not None
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def _tokenizer(name: str, hub: str) -> Any:
    from runner.models.load import load_tokenizer
    from runner.models.locate import locate

    return load_tokenizer(locate(Model(id=name), hub))


def _logprobs(choice: Any) -> list[float] | None:
    held = choice.logprobs
    if held is None:
        return None
    if getattr(held, "token_logprobs", None) is not None:
        return [float(value) for value in held.token_logprobs]
    return [float(token.logprob) for token in held.content or []]
