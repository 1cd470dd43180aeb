"""The whole door for plugins: what a reward, a loss-scale rule or a format may import. Nothing else of runner.

    # plugins/rewards/brief.py: the file's name is the reward's name
    def brief(completions: list[str], *, limit: int = 100) -> list[float | None]: ...

Positional: the data. A keyword without default: a column of the dataset, or one of `prompts`, `messages`,
`completion_ids`, `finish_reason`. A keyword with default: a parameter from YAML. `**columns`: every column.
`async def` is welcome. A score of None means "no score"; an exception instead of a score, returned, that scoring this
completion failed, which is counted. A completion is the whole answer, thoughts included: `answer(completion)` is what
comes after them. `lengths(columns)` are the tokens of each. `reward("accuracy")` is the function of another reward.

    # plugins/loss_scales/think.py
    def think(span: Span, *, weight: float = 0.5) -> list[tuple[str, float]]: ...

The pieces joined must be the span's text; each piece's number multiplies its weight.
"""

from collections.abc import Callable, Mapping
from typing import Any

from runner.core.errors import ConfigError, DataError
from runner.core.registry import load
from runner.core.thoughts import answer
from runner.core.types import Completion, Example, Message, Span

__all__ = ["Completion", "ConfigError", "DataError", "Example", "Message", "Span", "answer", "lengths", "reward"]


def reward(name: str) -> Callable[..., Any]:
    """The function of another reward, a user's own or a shipped one, for rewards that build on it. Write its name out:
    a change of that reward then counts as a change of those that name it.
    """
    function: Callable[..., Any] = load("rewards", name)
    return function


def lengths(columns: Mapping[str, Any]) -> list[int | None]:
    """How many tokens each completion has; None where a row of a completions file does not tell it.

    Args:
        columns: what a reward gets as `**columns`: `completion_ids`, or `completion_tokens` of such a file.

    Raises:
        ConfigError: no row tells it.
    """
    if columns.get("completion_ids") is not None:
        return [len(ids) for ids in columns["completion_ids"]]
    told = columns.get("completion_tokens") or []
    if all(length is None for length in told):
        fix = "Write into each row how many tokens its answer has."
        raise ConfigError("column completion_tokens", "no row has it, and lengths are needed", fix)
    return [None if length is None else int(length) for length in told]
