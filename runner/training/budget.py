"""How many tokens a micro-batch holds when `batch.tokens_per_device` is auto. It never changes the gradient."""

from runner.core.specs import Batch

CPU = 1024  # padding included: more does not run faster on a few cores and only takes memory
GPU = 8192  # enough to keep a large GPU busy


def tokens_per_device(batch: Batch, gpu: bool) -> int:
    """The budget of a micro-batch, in tokens."""
    if batch.tokens_per_device != "auto":
        return batch.tokens_per_device
    return GPU if gpu else CPU
