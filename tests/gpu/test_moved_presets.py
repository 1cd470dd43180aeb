"""On one GPU a training goes on under another preset: float32 weights and moments come over, however ZeRO has them."""

from pathlib import Path

import pytest

from tests.engines.group import figures, run

pytestmark = pytest.mark.gpu


def losses(folder: Path) -> list[float]:
    """Of each update."""
    return [line["loss"] for line in figures(folder) if "loss" in line]


@pytest.mark.parametrize("kind", ["full", "lora"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("single", "zero2"),
        ("zero2", "zero3"),
        ("zero3", "zero1"),
        ("single", "zero3_offload"),
        ("zero3_offload", "fsdp2"),
        ("fsdp2", "zero3"),
    ],
)
def test_it_goes_on_under_another_preset(tmp_path: Path, before: str, after: str, kind: str) -> None:
    """Products are rounded otherwise under ZeRO, which keeps weights in bfloat16: losses agree within that."""
    pytest.importorskip("deepspeed")
    assert run(tmp_path / "whole", after, kind, world=1, shim=False) == [0]
    assert run(tmp_path / "moved", before, kind, stop=3, world=1, shim=False) == [130]
    assert run(tmp_path / "moved", after, kind, world=1, shim=False) == [0], (tmp_path / "moved/log.0").read_text()
    assert "going on from checkpoint-3" in (tmp_path / "moved/log.0").read_text()
    assert losses(tmp_path / "moved") == pytest.approx(losses(tmp_path / "whole"), abs=0.05)


@pytest.mark.parametrize(
    ("before", "after"), [("ddp", "fsdp2"), ("zero2", "zero3"), ("zero3", "ddp"), ("fsdp2", "zero1")]
)
@pytest.mark.parametrize(("had", "has"), [(2, 1), (1, 2)])
def test_it_goes_on_with_another_number_of_gpus(
    two_gpus: None, tmp_path: Path, before: str, after: str, had: int, has: int
) -> None:
    pytest.importorskip("deepspeed")
    assert run(tmp_path / "whole", "single", world=1, shim=False) == [0]
    assert run(tmp_path / "moved", before, stop=3, world=had, shim=False) == [130] * had
    assert run(tmp_path / "moved", after, world=has, shim=False) == [0] * has, (tmp_path / "moved/log.0").read_text()
    assert "going on from checkpoint-3" in (tmp_path / "moved/log.0").read_text()
    assert losses(tmp_path / "moved") == pytest.approx(losses(tmp_path / "whole"), abs=0.05)


@pytest.mark.parametrize("preset", ["zero2", "zero3", "zero3_offload"])
def test_parts_written_late_are_of_their_update(tmp_path: Path, preset: str) -> None:
    """Copied through page-locked memory while the GPU goes on: killed and begun again it learns the same."""
    pytest.importorskip("deepspeed")
    assert run(tmp_path / "whole", preset, world=1, shim=False) == [0]
    assert run(tmp_path / "killed", preset, "slow disk", stop=-6, world=1, shim=False) == [-9]
    assert run(tmp_path / "killed", preset, world=1, shim=False) == [0], (tmp_path / "killed/log.0").read_text()
    assert "going on from checkpoint-3" in (tmp_path / "killed/log.0").read_text()
    assert losses(tmp_path / "killed") == pytest.approx(losses(tmp_path / "whole"), abs=0.01)
