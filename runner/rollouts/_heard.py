"""The log-probabilities of an answer, kept as vLLM's engine tells them with each step.

vLLM makes Python lists of them token by token, which takes a good part of each step's time on the host. Here its arrays
are kept as they come, and read once, when the answer is whole. Written against vLLM 0.25; where another release is made
otherwise, its own lists are taken (`_vllm_arguments.told`).
"""

from typing import Any

from runner.core.errors import StageError


class Heard:
    """Takes the place of what vLLM calls with each step's output of one answer."""

    def __init__(self) -> None:
        self._tokens: list[Any] = []  # arrays, [tokens of the step, 1]
        self._values: list[Any] = []

    def __call__(self, output: Any) -> None:
        """Keep one step's."""
        if output.new_logprobs is not None:
            self._tokens.append(output.new_logprobs.logprob_token_ids)
            self._values.append(output.new_logprobs.logprobs)

    def told(self, ids: list[int]) -> list[float]:
        """One of each of these tokens.

        Raises:
            StageError: they are of other tokens.
        """
        import numpy as np

        tokens, values = (
            np.concatenate(steps)[:, 0].tolist() if steps else [] for steps in (self._tokens, self._values)
        )
        if tokens != ids:
            raise StageError("vLLM's log-probabilities are not those of the tokens that it drew: they cannot be used.")
        return list(values)


def listen(engine: Any, name: str) -> Heard | None:
    """Hear those of an answer that was just asked for; None where this vLLM has no such place.

    Args:
        name: as vLLM's add_request returned it.
    """
    state = getattr(getattr(engine, "output_processor", None), "request_states", {}).get(name)
    processor: Any = getattr(state, "logprobs_processor", None)
    if not hasattr(processor, "update_from_output"):
        return None
    heard = Heard()
    try:
        processor.update_from_output = heard
    except AttributeError:  # it has slots
        return None
    return heard
