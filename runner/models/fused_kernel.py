"""Liger's fused head and loss: whether it can be had, and how much it holds at once. Plan and training ask here."""

from importlib import metadata

CHUNK = 2**28  # bytes of logits that it holds at once; fewer, and its products are too small to be fast
SINCE = "0.8.3"  # the first Liger that can be told so


def installed() -> bool:
    """Whether Liger is there, and not too old."""
    from packaging.version import Version

    try:
        return Version(metadata.version("liger-kernel")) >= Version(SINCE)
    except metadata.PackageNotFoundError:
        return False
