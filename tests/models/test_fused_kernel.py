"""Which Liger counts as the fused head."""

from importlib import metadata

import pytest

from runner.models import fused_kernel


@pytest.mark.parametrize(("version", "counts"), [("0.8.2", False), ("0.8.3", True), ("0.10.0", True), (None, False)])
def test_one_that_can_be_told_how_much_to_hold(
    monkeypatch: pytest.MonkeyPatch, version: str | None, counts: bool
) -> None:
    """`plan` took an older one for it, the training did not: logits were left out of the estimate."""

    def told(_: str) -> str:
        if version is None:
            raise metadata.PackageNotFoundError
        return version

    monkeypatch.setattr(metadata, "version", told)
    assert fused_kernel.installed() is counts
