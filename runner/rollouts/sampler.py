"""What samples answers by the weights of the moment, one file an engine: transformers in this process, vLLM on the same
GPUs, vLLM's server on others.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from runner.core.errors import StageError
from runner.core.specs import Backend, Model, Sampling
from runner.core.types import Completion
from runner.rollouts.answers import Prompt

if TYPE_CHECKING:
    from runner.training.algorithm import Learner

UTILIZATION = 0.3  # of a GPU's memory that vLLM takes where backend.engine.gpu_memory_utilization does not say it

Finished = Callable[[int, Completion], None]


@dataclass(frozen=True)
class Engine:
    """What an engine is made from: see the keys of the same names of stages/_sampled.py."""

    model: Model
    backend: Backend
    sampling: Sampling
    prefix: str = ""
    sleep_level: int = 1
    offload_model: bool = False
    offload_optimizer: bool = False
    timeout: float = 1800.0
    max_prompt: int = 0  # tokens of the longest one
    server: str | None = None
    group_port: int = 51216


class Sampler(Protocol):
    """Answers of the model that learns.

    exact: whether its log-probabilities are the model's own, so that nothing is to be corrected.
    """

    @property
    def exact(self) -> bool: ...

    def begin(self, learner: "Learner") -> None:
        """Take the weights of this moment; on several devices all call it."""

    def answer(
        self, prompts: Sequence[Prompt], seeds: Sequence[int], finished: Finished, sampling: Sampling | None = None
    ) -> None:  # fmt: skip
        """One answer to each prompt, with the log-probability of each token at the temperature alone.

        Args:
            seeds: one a prompt; where an engine draws by them, the same seed and weights give the same answer.
            finished: is given the place of a prompt and its answer. What it raises ends the work.
            sampling: how, where not as the training samples: of an evaluation, whose log-probabilities nobody reads.

        Raises:
            StageError: the engine failed, or took longer than it may.
        """

    def end(self, learner: "Learner") -> None:
        """Give back what the training needs; all devices call it."""

    def close(self) -> None:
        """End the engine."""


def too_slow(seconds: float, done: int, count: int) -> StageError:
    """So many answers of a rollout were there in time."""
    return StageError(
        f"sampling took longer than sampler_timeout={seconds:g} s: {done} of {count} answers were done. Raise it, or "
        "take fewer prompts or a lower sampling.max_new_tokens."
    )


def penalised(sampling: Sampling) -> bool:
    """Whether tokens that were there before become less likely, or likelier, than the model finds them."""
    more = sampling.presence_penalty or sampling.frequency_penalty
    return bool(more) or sampling.repetition_penalty not in (None, 1.0)


def changed(sampling: Sampling) -> bool:
    """Whether it draws, at its temperature, by other probabilities than the model's."""
    cut = sampling.top_p not in (None, 1.0) or (sampling.top_k or 0) > 0 or bool(sampling.min_p)
    return cut or penalised(sampling)


def seed_of(*parts: Any) -> int:
    """A seed of 32 bits for a word made of these parts."""
    import hashlib

    word = ":".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.sha256(word).digest()[:4], "big")
