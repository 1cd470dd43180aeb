"""The fastest pace within memory, found from passes whose time and memory are known lines."""

from dataclasses import dataclass, field

import pytest

from runner.core.errors import ConfigError, ModelError
from runner.core.specs import Batch, Model, TrainType
from runner.models.attention import choose
from runner.training import pace
from runner.training.layers import Checkpointing
from runner.training.pace import Pace, Sample, find
from runner.training.precision import precision
from runner.training.settings import check_pace

# seconds to start a micro-batch, seconds a token, GiB to start with, GiB a token
LINES: dict[Checkpointing, tuple[float, float, float, float]] = {
    "off": (0.05, 6.5e-5, 17.0, 7e-3),
    "selective": (0.05, 6.7e-5, 17.0, 2.7e-3),
    "full": (0.05, 9.5e-5, 16.0, 5e-4),
}


@dataclass
class Gpu:
    """Measures by LINES; memory above `gib` is none."""

    gib: float
    passes: list[tuple[Checkpointing, int]] = field(default_factory=list)

    def measure(self, mode: Checkpointing, tokens: int) -> Sample | None:
        self.passes.append((mode, tokens))
        start, slope, base, grows = LINES[mode]
        used = base + grows * tokens
        return Sample(tokens, start + slope * tokens, used) if used <= self.gib else None


def found(gpu: Gpu, longest: int = 2048, update: int = 8600) -> Pace | None:
    return find(gpu.measure, ["off", "selective", "full"], gpu.gib, longest, update, compiled=True)


def test_a_whole_update_in_one_micro_batch_where_memory_is_plenty():
    gpu = Gpu(90.0)
    assert found(gpu) == Pace(8600, "off", True, pytest.approx(8600 / (0.05 + 6.5e-5 * 8600), rel=1e-3))
    assert {mode for mode, _ in gpu.passes} == {"off"}, "nothing else need be tried"


def test_less_is_kept_where_that_is_faster_than_several_micro_batches():
    made = found(Gpu(60.0))
    assert made is not None
    assert (made.budget, made.checkpointing) == (8600, "selective")


def test_only_what_fits():
    made = found(Gpu(22.0))
    assert made is not None
    assert made.checkpointing == "full"
    assert 16.0 + 5e-4 * made.budget <= 22.0


@pytest.mark.parametrize("gib", [20.0, 24.0, 31.0, 47.0, 80.0])
@pytest.mark.parametrize("update", [3000, 8600, 140_000])
def test_it_stays_within_memory_and_no_other_mode_beats_it(gib, update):
    gpu = Gpu(gib)
    made = found(gpu, longest=1500, update=update)
    assert made is not None
    _, _, base, grows = LINES[made.checkpointing]
    assert base + grows * made.budget <= gib
    assert made.budget >= 1500
    for other, (_, _, least, each) in LINES.items():
        limit = min(int((pace.FILL * gib - least) / each), pace.MOST)
        if limit < 1500:
            continue
        assert made.tokens_per_s >= 0.9 * rate(other, limit, update), other


def rate(mode: Checkpointing, limit: int, update: int) -> float:
    start, slope, *_ = LINES[mode]
    rounds = -(-update // limit)
    return update / (rounds * (start + slope * max(update / rounds, 1)))


def test_room_that_small_passes_hide_is_found():
    """Seen with 1.7B, all weights learning: the first passes took as much in every mode, whatever they kept."""
    seconds = {"off": 2.65e-5, "selective": 2.8e-5, "full": 3.26e-5}
    grows = {"off": 0.00201, "selective": 0.00062, "full": 0.00025}
    passes: list[tuple[Checkpointing, int]] = []

    def measure(mode: Checkpointing, tokens: int) -> Sample:
        passes.append((mode, tokens))
        gib = 17.9 + 0.00195 * min(tokens, 2048) + grows[mode] * max(0, tokens - 2048)
        return Sample(tokens, max(0.19, seconds[mode] * tokens), gib)

    made = find(measure, ["off", "selective", "full"], 48.8, longest=580, update=34_000, compiled=True)
    assert made is not None
    assert (made.budget, made.checkpointing) == (pace.MOST, "selective")
    assert len([mode for mode, _ in passes if mode == "selective"]) == 4


@pytest.mark.parametrize("there", [40.0, 80.0])  # GiB: what is over is measured, or there is no memory for it
def test_a_pass_that_was_too_large_tells_how_large_one_may_be(there):
    """Seen with 1.7B, all weights learning, within 48 GiB: small passes all took the same, so that the next was of
    32,768 tokens and took 47.5; after it selective checkpointing was held to be good for 7,097 tokens alone.
    """
    seconds = {"off": (0.06, 5.8e-5), "selective": (0.08, 2.1e-5), "full": (0.125, 2.36e-5)}
    grows = {"off": (18.0, 0.0021), "selective": (15.3, 0.000982), "full": (15.2, 0.00027)}

    def measure(mode: Checkpointing, tokens: int) -> Sample | None:
        (start, slope), (base, each) = seconds[mode], grows[mode]
        gib = max(base + each * tokens, 15.4 if mode == "full" else min(22.2, 17.8 + 0.00215 * tokens))
        return Sample(tokens, start + slope * tokens, gib) if gib <= there else None

    made = find(measure, ["off", "selective", "full"], 34.2, longest=580, update=34_800, compiled=True)
    assert made is not None
    assert made.checkpointing == "selective" and 15.3 + 0.000982 * made.budget <= 34.2
    assert made.tokens_per_s > 1.1 * 34_800 / (2 * (0.125 + 2.36e-5 * 17_400))  # than full checkpointing makes


def test_small_updates_need_one_pass():
    gpu = Gpu(90.0)
    made = found(gpu, longest=300, update=500)
    assert made is not None
    assert (made.budget, made.checkpointing, gpu.passes) == (1024, "off", [("off", 1024)])


def test_memory_that_only_looked_free_is_found_out():
    gpu = Gpu(30.0)
    made = find(gpu.measure, ["selective"], 45.0, longest=1500, update=8600)
    assert made is not None
    assert 4000 <= made.budget <= (30.0 - 17.0) / 2.7e-3


def test_a_sequence_that_does_not_fit_at_all():
    assert found(Gpu(16.2)) is None


def test_a_pace_is_kept_whole_or_not_at_all(tmp_path):
    file = tmp_path / "cache" / pace.FILE
    assert pace.read(file) is None
    pace.write(file, Pace(4096, "selective", True, 12.5))
    assert pace.read(file) == Pace(4096, "selective", True, 12.5)
    file.write_text("{", encoding="utf-8")
    assert pace.read(file) is None


def test_after_memory_ran_out_micro_batches_shrink_then_less_is_kept():
    assert pace.reduced(Pace(1000), 800, alone=False) == Pace(560)
    assert pace.reduced(Pace(1000, "off"), 900, alone=True) == Pace(1000, "full")
    assert pace.reduced(Pace(1000, "full"), 900, alone=True) is None


@pytest.mark.parametrize(
    ("batch", "compiled", "preset", "told"),
    [
        (Batch(), True, "zero3", "x.model.compile: true, and zero3 compiles no layers. Take auto or false."),
        (
            Batch(checkpointing="selective"),
            "auto",
            "fsdp2",
            "selective needs compiled layers, and fsdp2 compiles none.",
        ),
        (Batch(checkpointing="selective"), False, "single", "selective needs compiled layers, and model.compile is f"),
        (Batch(checkpointing="selective"), "auto", "ddp", None),
        (Batch(checkpointing="full"), True, "single", None),
    ],
)
def test_what_no_layer_would_do_is_refused(batch, compiled, preset, told):
    """It was passed over, and told as if it were done."""
    if told is None:
        return check_pace(batch, compiled, preset, "x")
    with pytest.raises(ConfigError) as error:
        check_pace(batch, compiled, preset, "x")
    assert told in str(error.value)


@pytest.mark.parametrize(("kind", "asked"), [("full", "auto"), ("lora", "sdpa")])
def test_float32_on_a_gpu_takes_no_kernel_for_packed_batches(kind, asked):
    """They take bfloat16 alone, and failed at the first update."""
    model = Model(id="m", dtype="float32", attention=asked)
    assert precision(model, TrainType(kind=kind), gpu=True).model.attention == "sdpa"
    assert not choose(asked, "cuda", "float32").packed
    with pytest.raises(ModelError, match="varlen takes no float32, which is model.dtype"):
        choose("varlen", "cuda", "float32")
