"""Two processes learn what one does, under every preset; stopped and resumed they end where they would have."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from runner.core.errors import ConfigError
from runner.core.specs import Parallelism, TrainType
from runner.engines import presets
from runner.training.write_model import write_model
from tests.engines.group import figures, run, weights
from tests.training import small

needs_deepspeed = pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="deepspeed is not installed")
ZERO = [
    pytest.param(name, marks=[needs_deepspeed, pytest.mark.slow])
    for name in ("zero1", "zero2", "zero3", "zero3_offload")
]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Folders of trainings in one process, by kind, made once."""
    made: dict[str, Path] = {}

    def of(kind: str) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp("alone") / kind
            assert run(made[kind], "single", kind, world=1) == [0], (made[kind] / "log.0").read_text()
        return made[kind]

    return of


def assert_learned_the_same(one: Path, other: Path, kind: str) -> None:
    for a, b in zip(figures(one), figures(other), strict=True):
        for key in a:
            assert b[key] == pytest.approx(a[key], rel=1e-5), (key, a, b)
    first, second = weights(one, kind), weights(other, kind)
    assert set(first) == set(second)
    for name, value in first.items():  # AdamW makes much of rounding where a gradient is almost nothing
        assert (value - second[name]).abs().max() < 1e-3, name


@pytest.mark.parametrize("kind", ["full", pytest.param("lora", marks=pytest.mark.slow)])
@pytest.mark.parametrize("preset", ["ddp", "fsdp2", *ZERO])
def test_two_processes_learn_what_one_does(tmp_path: Path, alone: Any, preset: str, kind: str):
    assert run(tmp_path, preset, kind) == [0, 0], (tmp_path / "log.0").read_text()[-3000:]
    assert_learned_the_same(alone(kind), tmp_path, kind)
    if kind == "full":
        config = json.loads((tmp_path / "model" / "config.json").read_text())
        assert config["architectures"] == ["LlamaForCausalLM"]


@pytest.mark.parametrize("preset", ["ddp", "fsdp2", *ZERO])
def test_stopped_and_resumed_is_as_never_stopped(tmp_path: Path, preset: str):
    assert run(tmp_path / "whole", preset, "dropout") == [0, 0]
    assert run(tmp_path / "cut", preset, "dropout", stop=3) == [130, 130]
    assert run(tmp_path / "cut", preset, "dropout") == [0, 0]
    assert "going on from checkpoint-4" in (tmp_path / "cut" / "log.0").read_text()
    assert figures(tmp_path / "cut") == figures(tmp_path / "whole")
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all((whole[name] == cut[name]).all() for name in whole)


@pytest.mark.parametrize("preset", ZERO)
def test_updates_go_on_while_every_device_writes_its_part(tmp_path: Path, alone: Any, preset: str):
    """What comes to the disk late is of the update at which it was asked for: killed and begun again it goes on."""
    assert run(tmp_path, preset, "slow disk", stop=-6)[0] == -9
    assert "pp_rank_0_mp_rank_00_optim_states.pt is begun after update 4" in (tmp_path / "log.0").read_text()
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-3"]
    assert run(tmp_path, preset) == [0, 0], (tmp_path / "log.0").read_text()[-3000:]
    assert "going on from checkpoint-3" in (tmp_path / "log.0").read_text()
    assert_learned_the_same(alone("full"), tmp_path, "full")


@needs_deepspeed
@pytest.mark.slow
def test_a_device_that_cannot_write_its_part_is_told(tmp_path: Path):
    assert run(tmp_path, "zero2", "full disk") == [1, 1]
    told = [(tmp_path / f"error.{rank}").read_text() for rank in (0, 1)]
    assert "checkpoint 6 cannot be written" in told[0] and "device 1 did not write its part" in told[0]
    assert "No space left on device. Checkpoints made before are whole" in told[1]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["checkpoint-3"]


@pytest.mark.parametrize("preset", ["fsdp2", *ZERO])
def test_an_update_that_is_not_finite_is_skipped(tmp_path: Path, preset: str):
    assert run(tmp_path, preset, "sick") == [0, 0], (tmp_path / "log.0").read_text()[-3000:]
    lines = [line for line in figures(tmp_path) if "loss" in line]
    (sick,) = [line["update"] for line in lines if line["loss"] is None]
    assert json.loads((tmp_path / "skipped_updates.jsonl").read_text())["update"] == sick
    losses = [line["loss"] for line in lines if line["loss"] is not None]
    assert len(losses) == 5 and losses[-1] < losses[0]
    assert all(value.isfinite().all() for value in weights(tmp_path).values())


@pytest.mark.parametrize(
    ("before", "devices", "after", "now", "kind"),
    [
        ("single", 1, "ddp", 2, "full"),
        ("ddp", 2, "single", 1, "full"),
        ("fsdp2", 2, "fsdp2", 1, "full"),
        ("fsdp2", 2, "fsdp2", 3, "full"),
        ("fsdp2", 2, "single", 1, "full"),
        ("fsdp2", 2, "single", 1, "lora"),
        ("single", 1, "fsdp2", 2, "full"),
        ("single", 1, "fsdp2", 2, "lora"),
        ("ddp", 2, "fsdp2", 2, "full"),
        pytest.param("zero2", 2, "zero2", 1, "full", marks=needs_deepspeed),
        pytest.param("fsdp2", 2, "zero3", 2, "full", marks=needs_deepspeed),
        *(
            pytest.param(*case, marks=[needs_deepspeed, pytest.mark.slow])
            for case in (
                ("zero1", 2, "ddp", 2, "full"),
                ("zero2", 2, "single", 1, "lora"),
                ("zero2", 2, "fsdp2", 3, "full"),
                ("zero3", 2, "single", 1, "full"),
                ("zero3", 2, "fsdp2", 2, "lora"),
                ("zero3_offload", 2, "ddp", 2, "full"),
                ("single", 1, "zero1", 2, "full"),
                ("single", 1, "zero2", 2, "lora"),
                ("ddp", 2, "zero3_offload", 1, "full"),
                ("zero1", 2, "zero3_offload", 2, "lora"),
                ("zero2", 1, "zero3", 2, "full"),
                ("zero3", 2, "zero3", 3, "full"),
                ("zero3_offload", 2, "zero1", 3, "full"),
                ("zero3", 2, "single", 1, "experts"),
                ("zero2", 2, "zero3", 1, "experts"),
                ("single", 1, "zero3", 2, "experts"),
            )
        ),
    ],
)
def test_resumed_on_other_devices(
    tmp_path: Path, alone: Any, before: str, devices: int, after: str, now: int, kind: str
):
    """Weights, optimizer, schedule and position go over: all that follows is as if nothing had been changed."""
    assert set(run(tmp_path, before, kind, stop=3, world=devices)) == {130}, (tmp_path / "log.0").read_text()[-3000:]
    assert set(run(tmp_path, after, kind, world=now)) == {0}, (tmp_path / "log.0").read_text()[-3000:]
    assert "going on from checkpoint-" in (tmp_path / "log.0").read_text()
    assert_learned_the_same(alone(kind), tmp_path, kind)
    assert not (tmp_path / ".parts").exists()


def test_a_device_that_hangs_is_waited_for_no_longer_than_was_said(tmp_path: Path):
    assert 0 not in run(tmp_path, "ddp", "hangs")
    assert "Timed out waiting 3000ms" in (tmp_path / "log.0").read_text()


def test_that_dropout_is_another_on_other_devices_is_told(tmp_path: Path):
    told = "dropout falls on other places than it would have on the devices before"
    assert run(tmp_path, "single", "dropout", stop=3, world=1) == [130]
    assert run(tmp_path, "single", "dropout", stop=5, world=1) == [130]
    assert told not in (tmp_path / "log.0").read_text()
    assert run(tmp_path, "ddp", "dropout") == [0, 0], (tmp_path / "log.0").read_text()[-3000:]
    assert told in (tmp_path / "log.0").read_text()


@needs_deepspeed
@pytest.mark.slow
@pytest.mark.parametrize(("preset", "code"), [("zero2", 0), ("zero3", 2)])
def test_moved_before_anything_was_learned(tmp_path: Path, preset: str, code: int):
    assert run(tmp_path, preset, "sick so far", stop=1) == [130, 130], (tmp_path / "log.0").read_text()[-3000:]
    assert run(tmp_path, "single", "sick so far", world=1) == [code], (tmp_path / "log.0").read_text()[-3000:]
    if code:
        told = f"{tmp_path / 'checkpoint-2'}: every update before it was skipped, so that nothing was learned yet."
        assert (tmp_path / "error.0").read_text().startswith(told)


@needs_deepspeed
@pytest.mark.slow
def test_killed_on_other_devices_and_begun_again(tmp_path: Path, alone: Any):
    assert run(tmp_path, "zero2", stop=3) == [130, 130]
    assert run(tmp_path, "zero3", stop=-5)[0] == -9
    assert (tmp_path / ".parts").exists()
    assert run(tmp_path, "zero1") == [0, 0], (tmp_path / "log.0").read_text()[-3000:]
    assert (tmp_path / "log.0").read_text().count("going on from checkpoint-4") == 2
    assert_learned_the_same(alone("full"), tmp_path, "full")


@pytest.mark.parametrize(
    ("facts", "preset", "devices", "optimizer", "told"),
    [
        (
            {"preset": "zero2", "devices": 4}, "zero2", 2, "adafactor",
            "what adafactor keeps in the parts of zero2 cannot be put together, only what adamw keeps. Go on with "
            "parallelism=zero2 on 4 devices, or start anew from its weights",
        ),
        ({"preset": "zero1", "devices": 2}, "single", 1, "sgd", "what sgd keeps in the parts of zero1 cannot be put"),
        (
            {"devices": 1}, "zero3", 2, "adamw_8bit",
            "what adamw_8bit keeps cannot be split for zero3, only what adamw and sgd keep. Go on with "
            "parallelism=single on 1 device, or",
        ),
    ],
)  # fmt: skip
def test_a_resume_that_cannot_be_is_refused(
    facts: dict[str, Any], preset: str, devices: int, optimizer: str, told: str
):
    assert told in str(presets.cannot_resume(facts, Parallelism(preset=preset, gpus=devices), devices, optimizer))


@pytest.mark.parametrize(
    ("facts", "preset", "devices", "optimizer"),
    [
        ({"devices": 1}, "zero3", 2, "sgd"),
        ({"devices": 1}, "ddp", 2, "adafactor"),
        ({"preset": "zero2", "devices": 2}, "zero2", 2, "adafactor"),
        ({"preset": "fsdp2", "devices": 4}, "fsdp2", 2, "adamw"),
    ],
)
def test_a_resume_that_can_be_is_not_refused(facts: dict[str, Any], preset: str, devices: int, optimizer: str):
    assert presets.cannot_resume(facts, Parallelism(preset=preset, gpus=devices), devices, optimizer) is None


def test_without_deepspeed_nothing_is_put_together(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    facts, now = {"preset": "zero2", "devices": 2}, Parallelism(preset="ddp", gpus=2)
    assert "only deepspeed can put the parts of zero2 together" in str(presets.cannot_resume(facts, now, 2, "adamw"))


def test_fsdp2_without_a_gpu_is_refused_and_never_another_thing(tmp_path: Path):
    assert run(tmp_path, "fsdp2", shim=False) == [1, 1]
    assert "fsdp2 was asked for and accelerate runs MULTI_CPU" in (tmp_path / "error.0").read_text()


def test_weights_put_together_are_written_in_the_type_of_the_model(tmp_path: Path):
    """The split model is float32 while it learns; file and config tell the type that was asked for."""
    from safetensors import safe_open

    learned = small.model()
    whole = {name: value for name, value in learned.state_dict().items() if name != "lm_head.weight"}
    folder = write_model(learned, small.tokenizer(), tmp_path, "bfloat16", whole)
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"BF16"}  # noqa: SIM118


def test_weights_in_4_bits_are_not_split():
    with pytest.raises(
        ConfigError, match=r"^stages.train.parallelism.preset: zero3 splits weights, and those held in 4 bits"
    ):
        presets.check(Parallelism(preset="zero3", gpus=2), TrainType(kind="qlora"), "stages.train.parallelism")
    presets.check(Parallelism(preset="ddp", gpus=2), TrainType(kind="qlora"), "stages.train.parallelism")


def test_a_device_that_runs_out_of_memory_is_told_and_the_next_start_takes_less(tmp_path: Path):
    """It was a traceback, and the next start ran out of memory again."""
    assert run(tmp_path, "ddp", "no memory")[1] == 1
    told = (tmp_path / "error.1").read_text()
    assert "ran out of memory on device 1, with micro-batches of " in told
    assert "The same command goes on from the last checkpoint, with " in told
    assert 0 < json.loads((tmp_path / "pace.json").read_text())["budget"] < 80


@pytest.mark.slow
def test_under_zero_one_device_that_runs_out_of_memory_is_told(tmp_path: Path):
    """DeepSpeed keeps what finished micro-batches gave, so that the update cannot begin anew: it was a TypeError."""
    pytest.importorskip("deepspeed")
    assert run(tmp_path, "zero2", "no memory", world=1) == [1]
    assert "ran out of memory on device 0, with micro-batches of " in (tmp_path / "error.0").read_text()


def test_under_fsdp2_no_device_keeps_the_gradients_of_all_weights(tmp_path: Path):
    """They were kept until an update's last micro-batch: as much memory again as the weights take, and in bfloat16."""
    assert run(tmp_path, "fsdp2", "whole gradients") == [0, 0], (tmp_path / "log.0").read_text()[-3000:]
    assert "kept whole" not in (tmp_path / "log.0").read_text()
