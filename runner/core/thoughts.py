"""Tells a model's thoughts from its answer: what stands between `<think>` and `</think>`, and what comes after."""

OPEN, CLOSE = "<think>", "</think>"


def split(text: str) -> tuple[str | None, str]:
    """The thoughts, stripped, and the answer without leading blanks.

    The thoughts are None where the text does not open with a think block, and "" where the block is empty.
    A block that was never closed is all thoughts: the answer is then empty.
    """
    opened = text.lstrip()
    if not opened.startswith(OPEN):
        return None, text
    thoughts, _, after = opened.removeprefix(OPEN).partition(CLOSE)
    return thoughts.strip(), after.lstrip()


def answer(text: str) -> str:
    """What remains of a completion once its thoughts are left out."""
    return split(text)[1]
