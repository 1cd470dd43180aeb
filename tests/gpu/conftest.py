"""Tests of this folder need an NVIDIA GPU and are skipped without one."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def device() -> str:
    """The GPU's name for PyTorch."""
    if not torch.cuda.device_count():  # does not start the driver: an engine may still fork
        pytest.skip("no NVIDIA GPU")
    return "cuda"


@pytest.fixture(scope="session")
def two_gpus() -> None:
    """The test needs two of them."""
    if torch.cuda.device_count() < 2:
        pytest.skip("one NVIDIA GPU, two are needed")
