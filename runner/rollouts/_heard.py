"""The log-probabilities of an answer, kept as vLLM's engine tells them with each step.

vLLM makes Python lists of them token by token, which takes a good part of each step's time on the host. Here its arrays
are kept as they come, and read once, when the answer is whole. Written against vLLM 0.25; where another release is made
otherwise, its own lists stay.
"""

from typing import Any


class Heard:
    """Stands where vLLM collects an answer's log-probabilities, and is what its output then holds."""

    def __init__(self) -> None:
        self._tokens: list[Any] = []  # arrays, [tokens of the step, 1]
        self._values: list[Any] = []

    def __call__(self, output: Any) -> None:
        """Keep one step's."""
        if output.new_logprobs is not None:
            self._tokens.append(output.new_logprobs.logprob_token_ids)
            self._values.append(output.new_logprobs.logprobs)

    @property
    def token_ids(self) -> list[int]:
        """The tokens so far, as vLLM's own lists have them."""
        return _joined(self._tokens)

    @property
    def logprobs(self) -> list[float]:
        """One of each of them."""
        return _joined(self._values)


def _joined(steps: list[Any]) -> list[Any]:
    import numpy as np

    return list(np.concatenate(steps)[:, 0].tolist()) if steps else []


def listen(engine: Any, name: str) -> None:
    """Hear those of an answer that was just asked for, where this vLLM has such a place.

    Args:
        name: as vLLM's add_request returned it.
    """
    state = getattr(getattr(engine, "output_processor", None), "request_states", {}).get(name)
    processor: Any = getattr(state, "logprobs_processor", None)
    if hasattr(processor, "update_from_output") and hasattr(processor, "__dict__"):
        processor.update_from_output = processor.logprobs = Heard()
