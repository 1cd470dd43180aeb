"""What `runner plan` tells of a training."""

import pytest

TRAIN = '''
"""Trains, lightly."""
from typing import ClassVar
from runner.core.artifact import Artifact
from runner.core.schema import component
from runner.core.specs import Batch, Mix, Model, Parallelism, TrainType

@component
class Train:
    """Trains."""
    model: Model
    mix: Mix
    train_type: TrainType
    batch: Batch
    parallelism: Parallelism
    epochs: float
    max_length: int | None = None
    max_updates: int | None = None
    accepts: ClassVar[dict[str, tuple[str, ...]]] = {"model": ("model", "adapter")}
    reuse: ClassVar[str] = "always"
    interactive: ClassVar[bool] = False
    def produces(self): return "adapter"
    def check(self, roots, key): pass
    def run(self, job): return Artifact("adapter", str(job.folder))
'''
RECIPE = """\
# Trains twice.
name: mine
model: Qwen/Qwen3-8B
max_length: 2048
mix: {datasets: [rows.jsonl], validation: {rows: 4}}
stages:
  train: {kind: train}
  more: {kind: train, model: "stage:train"}
"""


@pytest.fixture
def shown(project):
    """The lines of `plan recipe=mine WORDS`."""
    project.write("plugins/stages/train.py", TRAIN)
    project.write("rows.jsonl", '{"messages": []}\n' * 100)
    project.recipe(RECIPE)

    def call(*words: str) -> list[str]:
        code, out, told = project.call("plan", "recipe=mine", *words)
        assert (code, told) == (0, "")
        return [" ".join(line.split()) for line in out.splitlines()]

    return call


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("", "data 96 rows, ~388 tokens"),
        ("", "batch 16 rows an update, cut into micro-batches by tokens per device (measured)"),
        ("", "updates 6 in 1 epoch"),
        ("batch.rows=10 epochs=2", "updates 20 in 2 epochs"),
        ("epochs=0.5", "updates 3 in 0.5 epochs"),
        ("max_updates=5", "updates 5 in 1 epoch, stopped by max_updates=5"),
        ("batch.tokens=100", "updates ~4 in 1 epoch"),
        ("batch.packs=2", "batch 2 packs an update, cut into micro-batches by tokens per device (measured)"),
        ("parallelism=zero3 parallelism.gpus=8 batch.tokens_per_device=4096",
         "batch 16 rows an update over 8 devices (2 on each), cut into micro-batches by tokens per device (4096)"),
        ("mix.datasets=[x/y#50]", "data ~46 rows (at most 94.2k)"),
        ("mix.datasets=[x/y#50]", "updates ~3 in 1 epoch"),
        ("mix.datasets=[x/y]", "data rows unknown before the data is read (`#N` takes N rows)"),
        ("", "total 2 of 2 stages run, 12 updates, ~776 tokens trained on"),
        ("batch.tokens=100", "total 2 of 2 stages run, ~8 updates, ~776 tokens trained on"),
        ("mix.datasets=[x/y#50] max_updates=2", "updates 2 in 1 epoch, stopped by max_updates=2"),
    ],
)  # fmt: skip
def test_figures(shown, words: str, line: str) -> None:
    """Counted where it can be, else marked."""
    assert line in shown(*words.split())


def test_what_a_user_wrote_is_no_markup(shown) -> None:
    """Square brackets in names and folders stay as they are."""
    assert "x[/b] outputs/[red]x" in shown("name=x[/b]", "output_dir=outputs/[red]x")


def test_a_narrow_terminal_takes_no_word_away(shown, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in a pipe, and not on a screen of 40 columns."""
    monkeypatch.setenv("COLUMNS", "40")
    whole = "more train train adapter run not yet run"
    assert whole in shown()
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    assert any(whole in line for line in shown())


def test_memory_follows_the_model_through_the_graph(shown) -> None:
    """A stage that trains another's result has the shape of the first model."""
    lines = [line for line in shown() if line.startswith("memory")]
    assert len(lines) == 2 and lines[0] == lines[1]
    assert "GiB a device with 2048 tokens (checkpointing: " in lines[0]
    assert "): 15.6 for weights and optimizer (21.8M learn)" in lines[0]
    assert not [line for line in shown("model=no/shape") if line.startswith("memory")]


def test_memory_of_a_split_model_is_told_as_it_will_be_trained(shown) -> None:
    """Activations are computed again there: what the plan told first was twice as much as was needed."""
    keys = ("train_type=full", "parallelism=zero3", "parallelism.gpus=4", "max_length=8192")
    line, *_ = [line for line in shown(*keys) if line.startswith("memory")]
    assert "~50.0 GiB a device with 8192 tokens (checkpointing full; 86.4 off): 33.3 for weights" in line


def test_what_would_fit_is_said_where_one_device_is_too_small(shown) -> None:
    """All weights of a 32B model learn: 16 bytes each, over the fewest devices of 80 GB that hold them."""
    line, *_ = [line for line in shown("model=Qwen/Qwen3-32B", "train_type=full") if line.startswith("more than")]
    assert line.startswith(
        "more than the 75 GiB that a device of 80 GB leaves; parallelism=zero3 on 8 devices would take"
    )
    assert not [line for line in shown("train_type=lora") if line.startswith("more than")]


def test_what_would_fit_can_be_followed(shown) -> None:
    """Weights in 4 bits cannot be split, which zero3 would; and what needs less than qlora is not qlora."""
    long = ("model=Qwen/Qwen3-32B", "train_type=qlora", "max_length=32768")
    line, *_ = [line for line in shown(*long) if line.startswith("more than")]
    assert line == "more than the 75 GiB that a device of 80 GB leaves; take a shorter max_length"
    line, *_ = [line for line in shown("model=Qwen/Qwen3-8B", "batch.memory_gib=10") if line.startswith("more than")]
    assert line == "more than the 10 GiB of batch.memory_gib; take train_type=qlora, or a shorter max_length"


def test_what_starts_whole_is_said(shown) -> None:
    """DeepSpeed puts the whole model on each device before it splits it, be it to leave the device again."""
    keys = ("model=Qwen/Qwen3-32B", "train_type=full", "parallelism=zero3_offload")
    lines = shown(*keys)
    assert any(line.startswith("~122.0 GiB while it starts: the whole model on each device") for line in lines)
    assert any("(8192 on a GPU)" in line for line in lines if line.startswith("batch"))


def test_what_is_complete_is_said(shown, project) -> None:
    """No command for it, and nothing in the total."""
    assert project.call("recipe=mine")[0] == 0
    lines = shown()
    assert "Nothing to do: every stage is complete." in lines
    assert not [line for line in lines if line.startswith("alone")]
    assert any("a run is refused, because train, more would be overwritten" in line for line in shown("epochs=2"))


def test_a_hundred_recipes_do_not_slow_it(project) -> None:
    """Only the recipe asked for is read."""
    import time

    for number in range(100):
        project.recipe(f"# Number {number}\nname: n{number}\nmodel: a/b\nstages: {{a: {{kind: echo}}}}\n", f"n{number}")
    start = time.monotonic()
    assert project.call("plan", "recipe=n57")[0] == 0
    assert time.monotonic() - start < 5  # the aim, 1.2 s as a whole process, is in tests/benchmarks/startup.py
