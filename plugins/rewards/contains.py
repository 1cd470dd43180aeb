"""1 where the answer holds an accepted text as whole words, and none that is forbidden; 0 elsewhere.

Columns: `expected`, a text or a list of texts of which one is enough; `forbidden`, optional, likewise. Case does not
matter, thoughts do not count. Blank texts are none, and a row that accepts none has no score. Whole words: "Paris" is
not in "Parisian". Scripts without spaces have no word bounds.
"""

import re
from typing import Any

from runner.api import answer

# a letter or digit of a script that puts spaces between words
_LETTER = r"[^\W_\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"


def contains(completions: list[str], *, expected: list[Any], **columns: Any) -> list[float | None]:
    """Score each answer 1.0 or 0.0."""
    forbidden = columns.get("forbidden") or [None] * len(completions)
    scores: list[float | None] = []
    for text, wanted, banned in zip(
        map(answer, completions), map(_words, expected), map(_words, forbidden), strict=True
    ):
        scores.append(float(_holds(text, wanted) and not _holds(text, banned)) if wanted else None)
    return scores


def _words(given: Any) -> list[str]:
    held = [given] if isinstance(given, str | int | float) else list(given or [])
    return [text for text in map(str, held) if text.strip()]


def _holds(text: str, words: list[str]) -> bool:
    return any(_pattern(word).search(text) for word in words)


def _pattern(word: str) -> re.Pattern[str]:
    spaced = r"\s+".join(re.escape(part) for part in word.split())
    before = rf"(?<!{_LETTER})" if re.match(_LETTER, word.strip()) else ""
    after = rf"(?!{_LETTER})" if re.match(_LETTER, word.strip()[-1:]) else ""
    return re.compile(before + spaced + after, re.IGNORECASE)
