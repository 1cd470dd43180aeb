"""Train what the assistant says, and nothing else."""

from runner.api import Span


def default(span: Span, *, parity: str = "") -> list[tuple[str, float]]:
    """Every assistant turn with its end-of-turn token.

    parity: "swift" trains the newline that the template writes after a turn as well.
    """
    newline = parity == "swift" and span.role == "template" and span.turn >= 0
    return [(span.text, 1.0 if span.role == "assistant" or newline else 0.0)]
