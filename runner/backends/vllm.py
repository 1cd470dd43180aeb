"""Answers with vLLM, in engine processes of its own: the engine of a machine with GPUs. Adapters are served beside
their base. Every argument of vLLM's engine can be given as `backend.engine.NAME`: max_model_len,
gpu_memory_utilization, tensor_parallel_size and the rest.

A seed for each prompt makes vLLM draw row by row, which is slow: prompts have their own only when `sampling.seed` is
said.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from runner.backends import _completion, _sampling, _vllm_arguments, _vllm_start
from runner.backends._completion import Prompt
from runner.backends._engine import Engine, Finished
from runner.backends._feed import Ask, Feed
from runner.core.errors import ConfigError, StageError, first_line
from runner.core.specs import Backend, Model, Sampling
from runner.core.types import Completion

IN_FLIGHT = 4096  # prompts that the engine holds at once: more than it works on, so that it never waits
_OPEN = Sampling()
FEW = 32  # prompts that it is given at a time


class Vllm(Engine):
    """A running engine and the tokenizer."""

    def __init__(self, backend: Backend, model: Model, hub: str) -> None:
        from runner.models.load import load_tokenizer
        from runner.models.locate import locate

        self.check(backend)
        located = locate(model, hub)
        self.tokenizer = load_tokenizer(located)
        self.defaults = _sampling.generation_config(located.base)
        self.ends = _sampling.end_ids(self.defaults, self.tokenizer)
        keys = _vllm_arguments.arguments(located, model, backend.engine)
        short = "backend.engine.max_model_len=8192; beside other programs a lower gpu_memory_utilization"
        self.engine = _vllm_start.begin(keys, short)
        self.context = int(self.engine.model_config.max_model_len)
        self.adapter: Any = None
        if located.adapter is not None:
            from vllm.lora.request import LoRARequest

            self.adapter = LoRARequest("adapter", 1, str(located.adapter))
        self._count = 0

    @staticmethod
    def check(backend: Backend, sampling: Sampling = _OPEN) -> None:
        """Refuse unknown engine arguments, and numbers that vLLM does not sample by."""
        _vllm_arguments.check(backend.engine)
        _vllm_arguments.check_sampling(sampling)

    def work(self, feed: Feed, sampling: Sampling, finished: Finished) -> None:
        """See `Engine.work`."""
        keys, seeded = self._keys(sampling), sampling.seed is not None
        asked: dict[str, Ask] = {}
        try:
            while True:
                # a few at a time: the engine, in its own process, begins with the first while the next are made
                while len(asked) < IN_FLIGHT and (some := feed.take(FEW, wait=not asked)):
                    for ask in some:
                        error = _completion.too_long(ask.prompt, self.context)
                        if error:
                            failed = [_completion.failure(ask.prompt, error, sample) for sample in range(sampling.n)]
                            finished(ask.place, failed)
                        else:
                            asked[self._add(ask.prompt, keys, ask.seed if seeded else None)] = ask
                    feed.pulse()
                if not asked:
                    return
                for output in self._step():
                    if output.finished:
                        ask = asked.pop(output.request_id)
                        finished(ask.place, [self._completion(ask.prompt, made, sampling) for made in output.outputs])
                feed.pulse()
        finally:
            self._abort(list(asked))

    def stream(self, prompt: Prompt, sampling: Sampling, seed: int = 0) -> Iterator[str | Completion]:
        """See `Engine.stream`."""
        from vllm.sampling_params import RequestOutputKind

        error = _completion.too_long(prompt, self.context)
        if error:
            yield _completion.failure(prompt, error)
            return
        if prompt.prefix:
            yield prompt.prefix
        keys = {**self._keys(sampling), "n": 1, "detokenize": True, "output_kind": RequestOutputKind.CUMULATIVE}
        name, shown = self._add(prompt, keys, seed if sampling.seed is not None else None), 0
        done = False
        try:
            while not done:
                for output in self._step():
                    made, done = output.outputs[0], output.finished
                    text = made.text[: _completion.ready(made.text, sampling.stop)]
                    text = self._text(made, sampling) if done else text
                    if len(text) > shown:
                        yield text[shown:]
                        shown = len(text)
            yield self._completion(prompt, made, sampling)
        finally:
            self._abort([] if done else [name])

    def close(self) -> None:
        """End the engine's processes and free the GPU."""
        self.engine.engine_core.shutdown()

    def _step(self) -> list[Any]:
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            return list(self.engine.step())
        except EngineDeadError:
            raise StageError(
                "vLLM's engine ended while it worked; its own words stand above. What was answered stays: the same "
                "command goes on. Where memory ran out: a lower backend.engine.gpu_memory_utilization or max_num_seqs."
            ) from None

    def _abort(self, names: list[str]) -> None:
        from vllm.v1.engine.exceptions import EngineDeadError

        with contextlib.suppress(EngineDeadError):  # then nothing is left to be aborted
            if names:
                self.engine.abort_request(names)

    def _keys(self, sampling: Sampling) -> dict[str, Any]:
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        keys = _vllm_arguments.sampling_keys(_sampling.resolve(sampling, self.defaults), self.ends)
        guided = {"json": sampling.guided_json, "regex": sampling.guided_regex}
        guided = {name: value for name, value in guided.items() if value is not None}
        if guided:
            keys["structured_outputs"] = StructuredOutputsParams(**guided)
        return {**keys, "output_kind": RequestOutputKind.FINAL_ONLY}

    def _add(self, prompt: Prompt, keys: dict[str, Any], seed: int | None) -> str:
        from vllm import SamplingParams

        self._count += 1
        name = str(self._count)
        ids = {"type": "token", "prompt_token_ids": list(prompt.ids)}
        try:
            self.engine.add_request(name, ids, SamplingParams(**keys, seed=seed), lora_request=self.adapter)
        except ValueError as error:
            raise ConfigError("sampling", f"vLLM refuses it: {first_line(error)}") from None
        return name

    def _completion(self, prompt: Prompt, made: Any, sampling: Sampling) -> Completion:
        if made.finish_reason not in ("stop", "length"):
            return _completion.failure(prompt, f"vLLM ended the answer: {made.finish_reason}", made.index)
        ids = list(made.token_ids)
        logprobs = None
        if sampling.logprobs and made.logprobs is not None:
            logprobs = _vllm_arguments.told(made)
        return _completion.completion(prompt, self._text(made, sampling), ids, made.finish_reason, made.index, logprobs)

    def _text(self, made: Any, sampling: Sampling) -> str:
        return _vllm_arguments.answered(made, sampling.stop, self.tokenizer, self.ends)
