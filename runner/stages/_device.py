"""What a training stage asks of the process that it runs in, one of perhaps many devices."""

import os


def first() -> bool:
    """Whether this process speaks for all devices."""
    return os.environ.get("RANK", "0") == "0"


def seed(number: int) -> None:
    """Before adapters are made: they start as chance has it."""
    from transformers import set_seed

    set_seed(number)
