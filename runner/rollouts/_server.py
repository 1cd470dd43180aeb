"""Samples with a vLLM server on other GPUs, to which the weights are sent over NCCL before each rollout.

    VLLM_SERVER_DEV_MODE=1 vllm serve MODEL --weight-transfer-config '{"backend": "nccl"}' \\
        --logprobs-mode processed_logprobs --host 127.0.0.1

(Its way to take weights is open to whoever reaches the port: another address than this machine's own only in a network
that is yours.)
Requests and the sending are those of TRL 1.16's client (extra: trl). What hangs there ends here with a name.
"""

import math
import os
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from runner.backends import _completion, _sampling
from runner.core.errors import ConfigError, RunnerError, StageError, first_line
from runner.core.specs import Sampling
from runner.core.types import Completion
from runner.models.locate import Located
from runner.rollouts import address
from runner.rollouts._weights import is_split, weights
from runner.rollouts.answers import Prompt
from runner.rollouts.draw import together
from runner.rollouts.sampler import Engine, Finished, changed

if TYPE_CHECKING:
    from runner.training.algorithm import Learner

START = 240.0  # seconds for the server to be up


class LiveServer:
    """See `Sampler`. Every device asks by itself; the first one sends the weights."""

    exact = False

    def __init__(self, keys: Engine, sampling: Sampling, tokenizer: Any, located: Located) -> None:
        self.keys, self.sampling, self.tokenizer = keys, sampling, tokenizer
        self.at = (keys.server or "").rstrip("/")
        self.ends = _sampling.end_ids(_sampling.generation_config(located.base), tokenizer)
        self.client: Any = None
        self._comparable = True
        self._told: list[tuple[str, str, list[int]]] | None = None

    def begin(self, learner: "Learner") -> None:
        """Meet the server the first time, and send it the weights of this moment; nobody asks before they are there."""
        world = learner.trainer.args.world_size
        failed: RunnerError | None = None
        try:
            self._hand_over(learner)
        except RunnerError as error:
            if world == 1 or is_split(learner.own):  # those who wait for a part of a weight hear nothing else
                raise
            failed = error
        for told in together(failed, world):
            if told is not None:
                raise StageError(str(told))

    def _hand_over(self, learner: "Learner") -> None:
        first = learner.trainer.args.process_index == 0
        if self.client is None:
            self._meet(learner.trainer.args.device if first else None)
        kind = torch.bfloat16 if torch.cuda.is_available() else None
        if self._told is None:  # the server is told of all weights before the first one comes
            self._told = [
                (name, str(value.dtype).removeprefix("torch."), list(value.shape))
                for name, value in weights(learner.own, kind)
            ]
        if first:
            device = learner.trainer.args.device
            self._within("sending the weights", lambda: self._send(weights(learner.own, kind), device))
        else:
            for _ in weights(learner.own, kind):  # weights that are split are put together by all
                pass

    def answer(
        self, prompts: Sequence[Prompt], seeds: Sequence[int], finished: Finished, sampling: Sampling | None = None
    ) -> None:  # fmt: skip
        """See `Sampler.answer`; the server draws by its own seed, and answers come all at once."""
        if not prompts:
            return
        sampling = sampling or self.sampling
        made = self._within(
            "sampling",
            lambda: self.client.generate(
                [list(prompt.ids) for prompt in prompts], n=1, max_tokens=sampling.max_new_tokens, logprobs=0,
                temperature=sampling.temperature, top_p=sampling.top_p, top_k=sampling.top_k, min_p=sampling.min_p,
                repetition_penalty=sampling.repetition_penalty,
                generation_kwargs=self._more(sampling),
            ),
        )  # fmt: skip
        for place, (prompt, ids, told) in enumerate(
            zip(prompts, made["completion_ids"], made["logprobs"], strict=True)
        ):
            finished(place, self._completion(prompt, list(ids), [each[0] for each in told], sampling.stop))

    def end(self, learner: "Learner") -> None:
        """Nothing was taken."""

    def close(self) -> None:
        """Leave the group of the weights; the server stays."""
        if self.client is not None:
            self.client.close_communicator()
            self.client = None

    def _meet(self, device: Any) -> None:
        if address.is_here(self.at):  # where the weights come from: without a network vLLM finds no address of its own
            os.environ.setdefault("VLLM_HOST_IP", "127.0.0.1")
        try:
            from trl.generation.vllm_client import VLLMClient
        except ImportError as error:
            raise ConfigError("server", f"its client cannot be imported: {error}", "Install the extra: trl.") from None

        def meet() -> tuple[Any, str]:
            address.wait(self.at, START)
            client = VLLMClient(base_url=self.at, group_port=self.keys.group_port, connection_timeout=START)
            if device is not None:
                client.init_communicator(device=device)
            return client, client.get_server_info()["model_config"]["logprobs_mode"]

        self.client, mode = self._within("meeting the server", meet)
        same = not changed(self.sampling)
        plain = self.sampling.temperature == 1.0 and (mode == "raw_logprobs" or same)
        self._comparable = plain or (mode == "processed_logprobs" and same)
        if not self._comparable:
            print(f"the server's log-probabilities ({mode}) are others than the model's: no correction", flush=True)

    def _send(self, named: Any, device: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.set_device(device)  # of this thread
            torch.cuda.synchronize()  # weights are read on other streams than the one that the optimizer writes on
        with torch.no_grad():
            self.client.update_named_params(self._told, named)
        self.client.reset_prefix_cache()

    def _within(self, what: str, do: Callable[[], Any]) -> Any:
        """What `do` gives, or an error with a name when it takes too long or fails."""
        held: list[Any] = []

        def work() -> None:
            try:
                held.append((do(), None))
            except Exception as error:  # noqa: BLE001 - told by the thread that waits
                held.append((None, error))

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(self.keys.timeout)
        if not held:
            raise StageError(
                f"server {self.at}: {what} took longer than sampler_timeout={self.keys.timeout:g} s. Look at "
                "the server's own words; a firewall between the two, or a server that waits for another training."
            )
        made, error = held[0]
        if error is not None:
            line = first_line(error).rstrip(".")
            raise StageError(f"server {self.at}: {what} failed: {line}.") from error
        return made

    def _more(self, sampling: Sampling) -> dict[str, Any]:
        """What the client has no argument for."""
        made: dict[str, Any] = {
            "stop_token_ids": sorted(self.ends),
            "presence_penalty": sampling.presence_penalty or 0.0,
            "frequency_penalty": sampling.frequency_penalty or 0.0,
        }
        return {**made, "stop": list(sampling.stop)} if sampling.stop else made

    def _completion(
        self, prompt: Prompt, ids: list[int], told: Sequence[float | None], stop: Sequence[str]
    ) -> Completion:  # fmt: skip
        """An answer; the client does not say why it ended."""
        read = _completion.Prompt(prompt.ids, prompt.head, prompt.prefix)
        text, stopped = _completion.cut_at_stop(_completion.spelled(self.tokenizer, ids, self.ends), stop)
        ended = stopped or (bool(ids) and ids[-1] in self.ends)
        known = [math.nan if value is None or not self._comparable else float(value) for value in told]
        return _completion.completion(read, text, ids, "stop" if ended else "length", 0, known)
