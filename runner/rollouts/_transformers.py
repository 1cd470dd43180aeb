"""Samples with transformers from the very model that learns: the engine of CPUs, and of models that vLLM lacks."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runner.backends import _completion, _sampling
from runner.backends._feed import Ask, ListFeed
from runner.backends.transformers import Transformers
from runner.core.specs import Sampling
from runner.core.types import Completion
from runner.rollouts.answers import Prompt
from runner.rollouts.sampler import Engine, Finished, penalised, too_slow

if TYPE_CHECKING:
    from runner.training.algorithm import Learner


CACHED = ("sdpa", "eager")  # attention that keys and values of earlier tokens can be given to; packed kernels take none


class _Live(Transformers):
    """The transformers backend around a model that is in memory already."""

    def __init__(self, model: Any, tokenizer: Any, ends: set[int], budget: int) -> None:
        self.model, self.tokenizer, self.budget, self.ends = model, tokenizer, budget, ends
        self.defaults: dict[str, Any] = {}  # nothing of the generation config: what is open is neutral
        self.context = int(getattr(model.config, "max_position_embeddings", 0) or 1 << 30)


class LiveTransformers:
    """See `Sampler`. Its log-probabilities are told after penalties: with those, they are not the model's."""

    def __init__(self, tokenizer: Any, keys: Engine, sampling: Sampling) -> None:
        self.tokenizer, self.keys = tokenizer, keys
        self.sampling = replace(sampling, n=1, logprobs=True)
        self.exact = not penalised(sampling)
        if not self.exact:
            print("log-probabilities after penalties are others than the model's: no correction", flush=True)
        self._engine: _Live | None = None
        self._attention = ""

    def begin(self, learner: "Learner") -> None:
        """The model itself, in evaluation mode."""
        model = learner.own.eval()
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._attention = base.config._attn_implementation
        if self._attention not in CACHED:
            base.set_attn_implementation("sdpa")
        ends = _sampling.end_ids({"eos_token_id": model.generation_config.eos_token_id}, self.tokenizer)
        self._engine = _Live(model, self.tokenizer, ends, self.keys.backend.batch_tokens)

    def answer(
        self, prompts: Sequence[Prompt], seeds: Sequence[int], finished: Finished, sampling: Sampling | None = None
    ) -> None:  # fmt: skip
        """See `Sampler.answer`."""
        assert self._engine is not None, "begin comes first"
        until, done = time.monotonic() + self.keys.timeout, list[int]()

        def beat() -> None:
            if time.monotonic() > until:
                raise too_slow(self.keys.timeout, len(done), len(prompts))

        def take(place: int, made: list[Completion]) -> None:
            done.append(place)
            told = made[0].logprobs
            finished(place, made[0] if self.exact or told is None else replace(made[0], logprobs=_unknown(told)))

        asked = [_completion.Prompt(prompt.ids, prompt.head, prompt.prefix, prompt.text) for prompt in prompts]
        asks = map(Ask, range(len(asked)), asked, seeds)
        self._engine.work(ListFeed(asks, beat), sampling or self.sampling, take)

    def end(self, learner: "Learner") -> None:
        """Give the model its own attention back."""
        model = learner.own
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        if base.config._attn_implementation != self._attention:
            base.set_attn_implementation(self._attention)
        self._engine = None

    def close(self) -> None:
        """Nothing to end."""


def _unknown(told: Sequence[float]) -> tuple[float, ...]:
    return (math.nan,) * len(told)
