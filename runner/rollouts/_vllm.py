"""Samples with vLLM in this process, on the GPU on which the model learns: it sleeps meanwhile, and gets the weights
anew before each rollout. Each device has an engine of its own that holds the whole model.

Written against vLLM 0.25. Its log-probabilities are asked for as they are before top_p, penalties and the like change
them, so that they can be compared with the model's.
"""

import math
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from runner.backends import _completion, _sampling, _vllm_arguments, _vllm_start
from runner.core.errors import ConfigError, first_line
from runner.core.specs import Sampling
from runner.core.types import Completion
from runner.models.locate import Located
from runner.rollouts._heard import listen
from runner.rollouts._offload import Offload
from runner.rollouts._weights import buckets, weights
from runner.rollouts.answers import Prompt
from runner.rollouts.sampler import UTILIZATION, Engine, Finished, changed, seed_of, too_slow
from runner.training._random_state import RandomState

if TYPE_CHECKING:
    from runner.training.algorithm import Learner


class LiveVllm:
    """See `Sampler`. The engine starts with the first rollout."""

    exact = False

    def __init__(self, keys: Engine, sampling: Sampling, tokenizer: Any, located: Located, seed: int) -> None:
        self.keys, self.sampling, self.tokenizer, self.located, self.seed = keys, sampling, tokenizer, located, seed
        self.offload = Offload(keys.offload_model, keys.offload_optimizer)
        self.engine: Any = None
        self._count = 0
        self._ends = _sampling.end_ids(_sampling.generation_config(located.base), tokenizer)
        self._mode = "raw_logprobs" if sampling.temperature == 1.0 else "processed_logprobs"
        self._comparable = sampling.temperature == 1.0 or not changed(sampling)
        if not self._comparable:
            print(
                "vLLM tells no log-probability before cuts and penalties at this temperature: no correction", flush=True
            )

    def begin(self, learner: "Learner") -> None:
        """Wake up, take the weights, and let those of the training leave the GPU where that is wanted."""
        self.offload.optimizer_away(learner)
        if self.engine is None:
            state = RandomState()  # vLLM seeds all generators of the process
            self.engine = self._start(learner)
            state.restore()
        elif self.keys.sleep_level:
            self.engine.wake_up(tags=["weights"])
        self._sync(learner)
        self.offload.model_away(learner)
        if self.keys.sleep_level and self.engine.is_sleeping():
            self.engine.wake_up(tags=["kv_cache"])
        self.engine.reset_prefix_cache()

    def end(self, learner: "Learner") -> None:
        """Sleep, and bring back what the training needs."""
        if self.keys.sleep_level and self.engine is not None and not self.engine.is_sleeping():
            self.engine.sleep(level=self.keys.sleep_level)
        self.offload.back()

    def close(self) -> None:
        """End the engine."""
        if self.engine is not None:
            self.engine.engine_core.shutdown()
            self.engine = None

    def answer(
        self, prompts: Sequence[Prompt], seeds: Sequence[int], finished: Finished, sampling: Sampling | None = None
    ) -> None:  # fmt: skip
        """See `Sampler.answer`; vLLM draws by its own seed."""
        until = time.monotonic() + self.keys.timeout
        keys, asked = sampling or self.sampling, dict[str, int]()
        try:
            for place, prompt in enumerate(prompts):
                asked[self._add(prompt, keys)] = place
            while asked:
                for output in self.engine.step():
                    if output.finished:
                        place = asked.pop(output.request_id)
                        finished(place, self._completion(prompts[place], output.outputs[0], keys))
                if asked and time.monotonic() > until:
                    raise too_slow(self.keys.timeout, len(prompts) - len(asked), len(prompts))
        finally:
            if asked:
                self.engine.abort_request(list(asked))

    def _start(self, learner: "Learner") -> Any:
        args = learner.trainer.args
        made: dict[str, Any] = {
            "model": str(self.located.base), "dtype": "bfloat16", "gpu_memory_utilization": UTILIZATION,
            "max_model_len": self.keys.max_prompt + self.sampling.max_new_tokens, "disable_log_stats": True,
            "trust_remote_code": self.keys.model.trust_remote_code, "logprobs_mode": self._mode,
            "seed": seed_of(self.seed, "engine", args.process_index) % 2**31,
            "enable_sleep_mode": self.keys.sleep_level > 0,
        }  # fmt: skip
        if args.world_size > 1:
            made["distributed_executor_backend"] = "external_launcher"
        made |= self.keys.backend.engine
        torch.cuda.empty_cache()
        short = f"backend.engine.gpu_memory_utilization below {made['gpu_memory_utilization']}"
        return _vllm_start.begin(made, short, beside=True)

    def _sync(self, learner: "Learner") -> None:
        """Hand the weights over, some at a time."""
        dtype = self.engine.model_config.dtype
        with torch.no_grad():
            for some in buckets(weights(learner.own, dtype)):
                self.engine.apply_model(partial(_load, some))

    def _add(self, prompt: Prompt, sampling: Sampling) -> str:
        self._count += 1
        name = str(self._count)
        asked = {"type": "token", "prompt_token_ids": list(prompt.ids)}
        try:
            own = self.engine.add_request(name, asked, self._drawn(sampling))
        except ValueError as error:
            raise ConfigError("sampling", f"vLLM refuses it: {first_line(error)}") from None
        if self._comparable:
            listen(self.engine, own)
        return name

    def _drawn(self, sampling: Sampling) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        keys = _vllm_arguments.sampling_keys(_sampling.resolve(sampling, {}), self._ends)
        keys |= {"n": 1, "logprobs": 0 if self._comparable else None}
        return SamplingParams(**keys, output_kind=RequestOutputKind.FINAL_ONLY)

    def _completion(self, prompt: Prompt, made: Any, sampling: Sampling) -> Completion:
        read = _completion.Prompt(prompt.ids, prompt.head, prompt.prefix)
        if made.finish_reason not in ("stop", "length"):
            return _completion.failure(read, f"vLLM ended the answer: {made.finish_reason}")
        ids = list(made.token_ids)
        known = _vllm_arguments.told(made) if self._comparable else [math.nan] * len(ids)
        text = _vllm_arguments.answered(made, sampling.stop, self.tokenizer, self._ends)
        return _completion.completion(read, text, ids, made.finish_reason, 0, known)


def _load(some: list[tuple[str, torch.Tensor]], model: Any) -> None:
    model.load_weights(some)
