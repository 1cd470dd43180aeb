"""Answers with transformers, in this process: the engine of a machine without a GPU, and of models that vLLM lacks.

Adapters stay beside the base model. Prompts are sorted by length and decoded in a rolling batch of at most
`backend.batch_tokens` tokens (see _rolling.py; transformers' own continuous batching was slower on CPUs than plain
batches). It takes no engine arguments.
"""

import contextlib
import dataclasses
import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.backends import _completion, _memory, _sampling
from runner.backends._completion import Prompt
from runner.backends._engine import Engine, Finished
from runner.backends._feed import Feed
from runner.core.errors import ConfigError
from runner.core.specs import Backend, Model, Sampling
from runner.core.types import Completion
from runner.models.load import load_model, load_tokenizer
from runner.models.locate import locate

if TYPE_CHECKING:
    from runner.backends._sampler import Row

WINDOW = 1024  # prompts that are sorted by length together: answers must not come too far out of order
_OPEN = Sampling()
FEW = 64  # waiting rows at which more prompts are taken


class Transformers(Engine):
    """A model and its tokenizer in memory."""

    def __init__(self, backend: Backend, model: Model, hub: str) -> None:
        import torch

        from runner.backends import _packed_weights

        self.check(backend)
        located = locate(model, hub)
        if model.attention == "auto" and torch.cuda.is_available():  # packed kernels have no cache
            model = dataclasses.replace(model, attention="sdpa")
        self.tokenizer = load_tokenizer(located)
        with _memory.told("loading the model", "Take a smaller one, or model.dtype=bfloat16."):
            self.model = load_model(located, model).eval()
            _packed_weights.pack(self.model)
        self.budget = backend.batch_tokens
        self.defaults = _sampling.generation_config(located.base)
        self.ends = _sampling.end_ids(self.defaults, self.tokenizer)
        self.context = int(getattr(self.model.config, "max_position_embeddings", 0) or 1 << 30)

    @staticmethod
    def refuse_arguments(given: Mapping[str, Any], key: str = "backend.engine") -> None:
        """Refuse engine arguments, of which there are none: a ConfigError with the key of the first."""
        for name in given:
            fix = "Leave them out: ~backend.engine takes away those of a recipe."
            raise ConfigError(f"{key}.{name}", "the transformers backend takes no engine arguments", fix)

    @staticmethod
    def check(backend: Backend, sampling: Sampling = _OPEN) -> None:
        """Refuse engine arguments, of which there are none, and guided answers."""
        Transformers.refuse_arguments(backend.engine)
        for name in ("guided_json", "guided_regex"):
            if getattr(sampling, name) is not None:
                fix = "Take backend=vllm or an endpoint."
                raise ConfigError(f"sampling.{name}", "the transformers backend cannot guide answers", fix)

    def work(self, feed: Feed, sampling: Sampling, finished: Finished) -> None:
        """See `Engine.work`."""
        waiting: deque[Row] = deque()
        asked: dict[int, _Asked] = {}

        def refill(wait: bool) -> bool:
            taken = feed.take(WINDOW, wait)
            for ask in taken:
                error = _completion.too_long(ask.prompt, self.context)
                if error:
                    failed = [_completion.failure(ask.prompt, error, sample) for sample in range(sampling.n)]
                    finished(ask.place, failed)
                    continue
                rows = [self._row(ask.place, ask.prompt, sampling, sample, ask.seed) for sample in range(sampling.n)]
                asked[ask.place] = _Asked(ask.prompt, rows, len(rows))
                waiting.extend(rows)
            _sort(waiting)
            return bool(taken)

        rolling = self._rolling(sampling)
        with self._felt(feed.pulse), self._memory():
            while refill(wait=True):  # it may be that none of them can be answered
                for advanced in rolling.steps(waiting):
                    for place in (row.index for row in advanced if row.finish_reason):
                        asked[place].left -= 1
                        if not asked[place].left:
                            prompt, rows = asked[place].prompt, asked.pop(place).rows
                            finished(place, [self._completion(prompt, row, sampling, n) for n, row in enumerate(rows)])
                    if len(waiting) < FEW:
                        refill(wait=False)

    def stream(self, prompt: Prompt, sampling: Sampling, seed: int = 0) -> Iterator[str | Completion]:
        """See `Engine.stream`."""
        error = _completion.too_long(prompt, self.context)
        if error:
            yield _completion.failure(prompt, error)
            return
        row = self._row(0, prompt, sampling, 0, seed)
        if prompt.prefix:
            yield prompt.prefix
        shown = 0
        with self._memory():
            for _ in self._rolling(sampling).steps(deque([row])):
                text, _ = _completion.cut_at_stop(self._text(row), sampling.stop)
                ready = len(text) if row.finish_reason else _completion.ready(text, sampling.stop)
                if ready > shown:
                    yield text[shown:ready]
                    shown = ready
        yield self._completion(prompt, row, sampling, 0)

    def close(self) -> None:
        """Free the weights."""
        import torch

        del self.model
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _memory(self) -> contextlib.AbstractContextManager[None]:
        stays = "What was answered stays: the same command goes on with it."
        return _memory.told(f"answering {self.budget} tokens at once", f"Take a lower backend.batch_tokens. {stays}")

    @contextlib.contextmanager
    def _felt(self, pulse: Callable[[], None]) -> Iterator[None]:
        """A pulse at every layer: on a CPU the first step of a large batch takes many seconds."""
        import torch

        lists = [part for part in self.model.modules() if isinstance(part, torch.nn.ModuleList)]
        hooks = [layer.register_forward_pre_hook(lambda *_: pulse()) for layers in lists for layer in layers]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _row(self, place: int, prompt: Prompt, sampling: Sampling, sample: int, seed: int) -> "Row":
        from runner.backends._sampler import Row

        return Row(place, list(prompt.ids), random.Random(f"{sampling.seed}:{seed}:{sample}"))

    def _rolling(self, sampling: Sampling) -> Any:
        from runner.backends._rolling import Rolling
        from runner.backends._sampler import Sampler

        def stopped(row: "Row") -> bool:
            return _completion.cut_at_stop(self._text(row), sampling.stop)[1]

        sampler = Sampler(_sampling.resolve(sampling, self.defaults))
        tell = stopped if sampling.stop else None
        return Rolling(self.model, sampler, self.ends, self.budget, self.context, sampling.max_new_tokens, tell)

    def _text(self, row: "Row") -> str:
        return _completion.spelled(self.tokenizer, row.new, self.ends)

    def _completion(self, prompt: Prompt, row: "Row", sampling: Sampling, sample: int) -> Completion:
        text, _ = _completion.cut_at_stop(self._text(row), sampling.stop)
        logprobs = row.logprobs if sampling.logprobs else None
        return _completion.completion(prompt, text, row.new, row.finish_reason or "length", sample, logprobs)


@dataclass
class _Asked:
    """A prompt whose answers are in the making; `left` of them are not finished."""

    prompt: Prompt
    rows: list["Row"]
    left: int


def _sort(waiting: "deque[Row]") -> None:
    """The longest first: a batch then holds rows of like lengths, and memory is needed most at the start."""
    ordered = sorted(waiting, key=lambda row: -len(row.ids))
    waiting.clear()
    waiting.extend(ordered)
