"""Train what the assistant says after the last user message, and nothing else."""

from runner.api import Span


def last_round(span: Span, *, parity: str = "") -> list[tuple[str, float]]:
    """The assistant turns of the last round, each with its end-of-turn token.

    parity: "swift" trains the newline that the template writes after a turn as well.
    """
    newline = parity == "swift" and span.role == "template" and span.turn >= 0
    return [(span.text, 1.0 if span.last and (span.role == "assistant" or newline) else 0.0)]
