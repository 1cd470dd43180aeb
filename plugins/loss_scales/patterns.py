"""Weights by regular expressions or by keywords, written in YAML: most rules need no Python.

In a recipe: `loss_scale: [default, {patterns: {regex: {"<tool_call>.*?</tool_call>": 2}}}]`, or
`{patterns: {delimiters: {"Action:": [2, 2], "Observation:": [2, 0]}}}`.
"""

import re
from collections.abc import Mapping
from functools import cache

from runner.api import ConfigError, Span


def patterns(
    span: Span,
    *,
    regex: dict[str, float] | None = None,
    delimiters: dict[str, list[float]] | None = None,
    role: str = "assistant",
) -> list[tuple[str, float]]:
    """What matches weighs what its pattern says, the rest 1; with both kinds the numbers multiply.

    regex: pattern -> weight; `.` matches newlines, `^` is the start of the span; where several match at one place the
    first one counts. delimiters: keyword -> [weight of the keyword, weight of the text up to the next keyword].
    role: the spans that it looks at: assistant, user, system, tool, template.
    """
    if span.role != role:
        return [(span.text, 1.0)]
    weights = [1.0] * len(span.text)
    for start, end, weight in [*_matches(span.text, regex or {}), *_keywords(span.text, delimiters or {})]:
        weights[start:end] = [before * weight for before in weights[start:end]]
    return _pieces(span.text, weights)


def _matches(text: str, regex: Mapping[str, float]) -> list[tuple[int, int, float]]:
    """Stretches that match, from the left, without overlap."""
    found: list[tuple[int, int, float]] = []
    at = 0
    while at < len(text):
        tries = [(match, weight) for name, weight in regex.items() if (match := _next(_compiled(name), text, at))]
        if not tries:
            break
        match, weight = min(tries, key=lambda pair: pair[0].start())
        found.append((match.start(), match.end(), weight))
        at = match.end()
    return found


def _next(pattern: re.Pattern[str], text: str, at: int) -> re.Match[str] | None:
    """The next match that is not empty."""
    return next((match for match in pattern.finditer(text, at) if match.end() > match.start()), None)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern, re.DOTALL)
    except re.error as error:
        raise ConfigError("loss_scale.patterns.regex", f"{pattern!r} is no regular expression: {error}") from None


def _keywords(text: str, delimiters: Mapping[str, list[float]]) -> list[tuple[int, int, float]]:
    """Each keyword, and the text from it to the next one."""
    if not delimiters:
        return []
    longest_first = sorted(delimiters, key=len, reverse=True)
    places = list(re.finditer("|".join(re.escape(word) for word in longest_first), text))
    found: list[tuple[int, int, float]] = []
    for place, following in zip(places, [*places[1:], None], strict=True):
        own, after = delimiters[place.group()]
        end = following.start() if following else len(text)
        found += [(place.start(), place.end(), own), (place.end(), end, after)]
    return found


def _pieces(text: str, weights: list[float]) -> list[tuple[str, float]]:
    """Neighbours of one weight as one piece."""
    made: list[tuple[str, float]] = []
    start = 0
    for end in range(1, len(text) + 1):
        if end == len(text) or weights[end] != weights[start]:
            made.append((text[start:end], weights[start]))
            start = end
    return made
