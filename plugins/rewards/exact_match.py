"""1 where the answer is an accepted text and nothing else, blanks at its ends left aside; 0 elsewhere.

Column: `expected`, a text or a list of texts of which one is enough. Thoughts do not count.
"""

from typing import Any

from runner.api import answer


def exact_match(completions: list[str], *, expected: list[Any], ignore_case: bool = False) -> list[float | None]:
    """Score each answer 1.0 or 0.0."""

    def plain(text: Any) -> str:
        return str(text).strip().casefold() if ignore_case else str(text).strip()

    scores: list[float | None] = []
    for completion, wanted in zip(completions, expected, strict=True):
        accepted = wanted if isinstance(wanted, list) else [wanted]
        scores.append(float(plain(answer(completion)) in {plain(text) for text in accepted}))
    return scores
