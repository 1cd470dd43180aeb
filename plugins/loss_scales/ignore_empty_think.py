"""No loss on an empty think block at the start of an answer, so that a model does not unlearn to think."""

import re

from runner.api import Span

EMPTY = re.compile(r"\s*(?:<think>\s*)?</think>\s*")  # the opening tag may be part of the prompt


def ignore_empty_think(span: Span) -> list[tuple[str, float]]:
    """Weight 0 for the block and the blanks after it; 1 for the rest."""
    found = EMPTY.match(span.text) if span.role == "assistant" else None
    end = found.end() if found else 0
    return [(span.text[:end], 0.0), (span.text[end:], 1.0)]
