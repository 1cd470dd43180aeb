"""1 where the answer holds a match of a regular expression, 0 elsewhere.

`pattern` from YAML, or a column of that name per row through `column`. Thoughts do not count unless `thoughts: true`.
"""

import re
from typing import Any

from runner.api import ConfigError, answer


def regex(
    completions: list[str],
    *,
    pattern: str = "",
    column: str = "",
    whole: bool = False,
    thoughts: bool = False,
    **columns: Any,
) -> list[float | None]:
    """Score each answer 1.0 or 0.0.

    Args:
        column: the data's column that holds each row's pattern, instead of `pattern`.
        whole: the match must be the whole answer, blanks at its ends left aside.
    """
    if bool(pattern) == bool(column):
        raise ConfigError("reward.regex.params", "needs a pattern or a column, and not both", "Give one of them.")
    try:
        re.compile(pattern)
    except re.error as error:
        raise ConfigError("reward.regex.params.pattern", f"{pattern!r} is no regular expression: {error}") from None
    patterns = columns.get(column) if column else [pattern] * len(completions)
    if patterns is None:
        raise ConfigError("reward.regex.params.column", f"the data has no column {column!r}")
    scores: list[float | None] = []
    for completion, expression in zip(completions, patterns, strict=True):
        if expression is None:
            scores.append(None)
            continue
        text = (completion if thoughts else answer(completion)).strip()
        found = re.fullmatch(expression, text, re.DOTALL) if whole else re.search(expression, text)
        scores.append(float(found is not None))
    return scores
