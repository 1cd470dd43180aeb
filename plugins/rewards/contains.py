"""1 where the answer holds an accepted text as whole words, and none that is forbidden; 0 elsewhere.

Columns: `expected`, a text or a list of texts of which one is enough; `forbidden`, optional, likewise. Case does not
matter, thoughts do not count. Whole words: "Paris" is not in "Parisian". Scripts without spaces have no word bounds.
"""

import re
from typing import Any

from runner.api import answer

# a letter or digit of a script that puts spaces between words
_LETTER = r"[^\W_\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"


def contains(completions: list[str], *, expected: list[Any], **columns: Any) -> list[float | None]:
    """Score each answer 1.0 or 0.0."""
    forbidden = columns.get("forbidden") or [None] * len(completions)
    return [
        float(_holds(text, wanted) and not _holds(text, banned))
        for text, wanted, banned in zip(map(answer, completions), expected, forbidden, strict=True)
    ]


def _holds(text: str, words: Any) -> bool:
    accepted = [words] if isinstance(words, str | int | float) else list(words or [])
    return any(_pattern(str(word)).search(text) for word in accepted)


def _pattern(word: str) -> re.Pattern[str]:
    spaced = r"\s+".join(re.escape(part) for part in word.split())
    before = rf"(?<!{_LETTER})" if re.match(_LETTER, word.strip()) else ""
    after = rf"(?!{_LETTER})" if re.match(_LETTER, word.strip()[-1:]) else ""
    return re.compile(before + spaced + after, re.IGNORECASE)
