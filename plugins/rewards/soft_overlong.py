"""Takes away from answers that come near the limit: 0 up to `max_length - cache` tokens, then down to -1 at
`max_length` and beyond (DAPO, Yu et al. 2025, arXiv 2503.14476).

Lengths come from `completion_ids`, or `completion_tokens` of a completions file.
"""

from typing import Any

from runner.api import ConfigError, lengths


def soft_overlong(completions: list[str], *, max_length: int = 0, cache: int = 0, **columns: Any) -> list[float | None]:
    """Score each answer between -1.0 and 0.0.

    Args:
        max_length: tokens of the limit. cache: tokens before it over which the score falls.
    """
    if not 0 < cache <= max_length:
        fix = "Say both, in tokens: cache at most max_length."
        raise ConfigError("reward.soft_overlong.params", f"max_length {max_length} and cache {cache} do not fit", fix)
    allowed = max_length - cache
    return [None if length is None else max(-1.0, min(0.0, (allowed - length) / cache)) for length in lengths(columns)]
