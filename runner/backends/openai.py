"""Answers from a server that speaks OpenAI's interface: vLLM, SGLang, llama.cpp, or a paid one. `model.id` is the name
that the server knows; `backend.engine.base_url` says where it is. Requests go out side by side, bounded, and are
repeated with growing waits; a prompt that the server refuses costs that prompt only.
"""

import contextlib
import dataclasses
import math
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import Any

from runner.backends import _completion, _endpoint
from runner.backends._completion import Prompt
from runner.backends._connect import connect
from runner.backends._engine import Engine, Finished
from runner.backends._feed import Ask, Feed
from runner.core import address, schema
from runner.core.errors import StageError
from runner.core.specs import Backend, Model, Sampling, Template
from runner.core.types import Completion, Message
from runner.models.load import tokenizer_of

_OPEN = Sampling()
NOT_JSON = "the server's reply is not JSON"
NONE = "the server's reply is no completion"
WHERE = " (is backend.engine.base_url the address up to and with /v1?)"
BROKE_OFF = "the stream ended before the answer did"
PATIENCE = 0.2  # seconds between looks at whether the user wants to stop
NO_ROOM = "context length"  # in a server's words about a prompt and max_tokens that are too many together


class Openai(Engine):
    """A client of one server, and the tokenizer where prompts are made here."""

    def __init__(self, backend: Backend, model: Model, hub: str) -> None:
        self.keys = self.check(backend)
        met = connect(self.keys, model.id, "backend.engine", "backend.name", "model.id")
        self.client, self.errors, self.context, self.name = met.client, met.errors, met.context, model.id
        self.tokenizer, self._told = None, set[str]()
        self._counted = (0, 0)  # the tokens of the last conversation that the server counted, and its size
        if self.keys.sends_ids:
            self.tokenizer = tokenizer_of(self.keys.tokenizer or model.id, hub, "backend.engine.tokenizer")

    @staticmethod
    def check(backend: Backend, sampling: Sampling = _OPEN) -> _endpoint.Endpoint:
        """The keys of `backend.engine`; of sampling the server is the judge.

        Raises:
            ConfigError: an unknown or missing one, or an address that is none.
        """
        keys: _endpoint.Endpoint = schema.build(_endpoint.Endpoint, backend.engine, "backend.engine")
        address.check(keys.base_url, "backend.engine.base_url")
        return keys

    def prompt(
        self, messages: Sequence[Message], template: Template, tools: Sequence[Mapping[str, Any]] = ()
    ) -> Prompt:
        """See `Engine.prompt`; the conversation as JSON where the server renders and tokenizes it."""
        if self.tokenizer is None:
            text = _endpoint.messages_text(messages, template, tools)
            return Prompt((), 0, template.response_prefix, text)
        return super().prompt(messages, template, tools)

    def room(self, prompt: Prompt) -> int:
        """See `Engine.room`; where the server makes the ids, by its last count and the words since then."""
        if self.tokenizer is not None:
            return super().room(prompt)
        tokens, size = self._counted
        return self.context - tokens - (_endpoint.size(prompt.text) - size) // _endpoint.BYTES

    def work(self, feed: Feed, sampling: Sampling, finished: Finished) -> None:
        """See `Engine.work`."""
        todo, done = SimpleQueue[Ask | None](), SimpleQueue[tuple[Ask, Any]]()
        workers = range(self.keys.concurrency)
        for _ in workers:  # daemons: a request that hangs must not hold up the end of the process
            threading.Thread(target=self._serve, args=(todo, done, sampling), daemon=True).start()
        running = 0
        try:
            while True:
                for ask in feed.take(self.keys.concurrency - running, wait=not running):
                    todo.put(ask)
                    running += 1
                if not running:
                    return
                with contextlib.suppress(Empty):
                    ask, made = done.get(timeout=PATIENCE)
                    running -= 1
                    if isinstance(made, BaseException):
                        raise made
                    finished(ask.place, made)
                feed.pulse()
        finally:
            for _ in workers:
                todo.put(None)

    def _serve(self, todo: "SimpleQueue[Ask | None]", done: "SimpleQueue[tuple[Ask, Any]]", sampling: Sampling) -> None:
        """A worker: one request at a time, until there is None to do."""
        while (ask := todo.get()) is not None:
            try:
                done.put((ask, self._answer(ask, sampling)))
            except Exception as error:  # noqa: BLE001 - raised again where it is waited for
                done.put((ask, error))

    def _answer(self, ask: Ask, sampling: Sampling) -> list[Completion]:
        """All samples of a prompt: a request each, so that each has its seed and its counts."""
        made: list[Completion] = []
        full = _completion.too_long(ask.prompt, self.context)
        if full is not None:
            return [_completion.failure(ask.prompt, full, sample) for sample in range(sampling.n)]
        for sample in range(sampling.n):
            try:
                reply = self._send(ask.prompt, sampling, ask.seed + sample)
            except self.errors.AuthenticationError:
                raise StageError(f"backend.engine.key_env: {self.keys.base_url} refuses the key.") from None
            except self.errors.APIError as error:
                if self._gone(error):
                    raise StageError(
                        f"backend.engine.base_url: no server answers any more at {self.keys.base_url}, after "
                        f"{self.keys.retries} retries. The same command goes on."
                    ) from None
                made.append(_completion.failure(ask.prompt, self._reason(error), sample))
            except (ValueError, RecursionError):
                made.append(_completion.failure(ask.prompt, NOT_JSON, sample))
            else:
                made.append(self._read(reply, ask.prompt, sampling, sample))
        return made

    def _read(self, reply: Any, prompt: Prompt, sampling: Sampling, sample: int) -> Completion:
        usage = getattr(reply, "usage", None)
        try:
            choice = _endpoint.choice_of(reply, self.tokenizer is None)
            reason = choice.finish_reason
            text = _endpoint.said(choice.message, reason) if self.tokenizer is None else choice.text
            made = _endpoint.completion(prompt, text, reason, usage, sample, _logprobs(choice, sampling))
        except _endpoint.ODD:
            told = self.keys.without_key(_endpoint.shown(reply))[: _endpoint.SAID]
            return _completion.failure(prompt, f"{NONE}: {told!r}", sample)
        if made.error:
            return made
        if sampling.logprobs and made.logprobs is None:
            self._once("sampling.logprobs: the server gives none, and rows are written without them")
        if usage is None:
            self._once("the server counts no tokens: rows and figures tell 0 of them")
        return made

    def _once(self, told: str) -> None:
        if told not in self._told:
            self._told.add(told)
            print(told, flush=True)

    def _send(self, prompt: Prompt, sampling: Sampling, seed: int, stream: bool = False) -> Any:
        keys = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        if self.tokenizer is None:
            return self._converse(prompt, keys | _endpoint.sampling_keys(sampling, seed, self.keys.extra), sampling)
        sampling = dataclasses.replace(sampling, max_new_tokens=min(sampling.max_new_tokens, self.room(prompt)))
        keys |= {"logprobs": 0} if sampling.logprobs else {}
        keys |= _endpoint.sampling_keys(sampling, seed, self.keys.extra)
        return self.client.completions.create(model=self.name, prompt=list(prompt.ids), **keys)

    def _converse(self, prompt: Prompt, keys: dict[str, Any], sampling: Sampling) -> Any:
        """Send a conversation. Where max_tokens is more than the context leaves, the server itself fills that."""
        own = _endpoint.chat_keys(prompt.text, prompt.prefix)
        body = {**keys.pop("extra_body"), **own.pop("extra_body")}
        asked = {"model": self.name, **keys, **own, **({"logprobs": True} if sampling.logprobs else {})}
        try:
            return self.client.chat.completions.create(**asked, extra_body=body)
        except self.errors.BadRequestError as error:
            if NO_ROOM not in self._reason(error).lower():
                raise
            del asked["max_tokens"]
            return self.client.chat.completions.create(**asked, extra_body=body)

    def stream(self, prompt: Prompt, sampling: Sampling, seed: int = 0) -> Iterator[str | Completion]:
        """See `Engine.stream`."""
        full = _completion.too_long(prompt, self.context)
        if full is not None:
            yield _completion.failure(prompt, full)
            return
        if prompt.prefix:
            yield prompt.prefix
        text, reason, usage, pieces = "", None, None, _endpoint.Pieces()
        try:
            with contextlib.closing(self._events(prompt, sampling, seed)) as events:
                for event in events:
                    if event is None:
                        yield ""
                        continue
                    usage = event.usage or usage
                    for choice in event.choices or ():
                        piece = pieces.add(choice.delta) if self.tokenizer is None else choice.text or ""
                        reason, text = choice.finish_reason or reason, text + piece
                        if piece:
                            yield _endpoint.whole(piece)
        except self.errors.APIError as error:
            yield _completion.failure(prompt, self._reason(error))
            return
        except _endpoint.ODD as error:
            yield _completion.failure(prompt, NOT_JSON if isinstance(error, ValueError) else NONE)
            return
        if reason is None and usage is None:  # a page with status 200 too
            yield _completion.failure(prompt, BROKE_OFF if text else NONE)
            return
        made = _endpoint.completion(prompt, text, reason, usage, 0, None)
        if self.tokenizer is None and made.prompt_tokens:
            self._counted = made.prompt_tokens, _endpoint.size(prompt.text)
        yield made

    def _events(self, prompt: Prompt, sampling: Sampling, seed: int) -> Generator[Any]:
        """The events of a stream as they come, and None while none comes; who closes it waits for nothing."""
        heard, left = SimpleQueue[Any](), threading.Event()
        threading.Thread(target=self._listen, args=(heard, left, prompt, sampling, seed), daemon=True).start()
        try:
            while True:
                try:
                    event = heard.get(timeout=PATIENCE)
                except Empty:
                    yield None
                    continue
                if event is None:
                    return
                if isinstance(event, Exception):
                    raise event
                yield event
        finally:
            left.set()

    def _listen(
        self, heard: "SimpleQueue[Any]", left: threading.Event, prompt: Prompt, sampling: Sampling, seed: int
    ) -> None:
        """Hand on the events of a stream, then None, or what went wrong; hang up once nobody listens any more."""
        try:
            with self._send(prompt, sampling, seed, stream=True) as reply:
                for event in reply:
                    if left.is_set():
                        return
                    heard.put(event)
            heard.put(None)
        except Exception as error:  # noqa: BLE001 - raised again where it is waited for
            heard.put(error)

    def _gone(self, error: Exception) -> bool:
        """Whether the server cannot be reached: all other questions would fail too. One that is too slow is there."""
        late = isinstance(error, self.errors.APITimeoutError)
        return isinstance(error, self.errors.APIConnectionError) and not late

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def _reason(self, error: Any) -> str:
        """What a server says of a request that it refuses, where it does not say it as OpenAI does too."""
        body = getattr(error, "body", None)
        said = body.get("detail", body.get("message", "")) if isinstance(body, Mapping) else body
        told, more = self.keys.without_key(str(error)), self.keys.without_key(str(said or "").strip())
        more = more[: _endpoint.SAID]
        told = told if more in told else f"{told} - {more}"
        return told + WHERE * isinstance(error, self.errors.NotFoundError)


def _logprobs(choice: Any, sampling: Sampling) -> list[float] | None:
    """One a token; None where they are not wanted, and where the server does not give each of them."""
    held = choice.logprobs if sampling.logprobs else None
    if held is None:
        return None
    given = getattr(held, "token_logprobs", None)
    given = [token.logprob for token in getattr(held, "content", None) or []] if given is None else given
    known = all(isinstance(value, int | float) and math.isfinite(value) for value in given)
    return [float(value) for value in given] if known and given else None
