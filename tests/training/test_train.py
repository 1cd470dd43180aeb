"""A training from begin to end: its figures, its folder, and what goes wrong in it."""

import errno
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from runner.core.errors import ConfigError, DataError, Interrupted, StageError
from runner.core.job import Job
from runner.core.specs import Batch, Eval, Log, Optim, Save
from runner.core.types import Encoded
from runner.training import checkpoints, write_model
from runner.training.settings import Settings, rhythm
from tests.training import small

GOLDEN = Path(__file__).parent.parent / "golden" / "small_training.json"
FIELDS = (
    "update", "epoch", "loss", "grad_norm", "lr", "rows", "tokens", "trained_tokens", "padding_share", "seconds",
    "tokens_per_s", "trained_tokens_per_s", "data_seconds", "mfu", "memory_gib",
)  # fmt: skip


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_training_learns_and_tells_it(tmp_path: Path):
    data, kept = small.rows(64), small.rows(10, seed=9)
    settings = Settings(lr=1e-2, optim=Optim(warmup=0.1), eval=Eval(every=10), save=Save(every=6), log=Log(every=5))
    job = Job(name="train", folder=tmp_path, run=tmp_path, progress=small.Silent())
    made = small.fit(tmp_path, small.model(), data, kept=kept, epochs=3, settings=settings, job=job)
    told = lines(tmp_path)
    logged = [line for line in told if "loss" in line]
    assert [line["update"] for line in logged] == [1, 5, 10, 15, 20, 24]
    assert all(tuple(line) == FIELDS for line in logged)
    assert logged[0]["loss"] == pytest.approx(math.log(small.VOCABULARY), rel=0.02) and logged[-1]["loss"] < 2.0
    assert sum(line["rows"] for line in logged) == 3 * 64
    assert sum(line["tokens"] for line in logged) == 3 * sum(len(row.input_ids) for row in data)
    evaluated = [line for line in told if "eval_loss" in line]
    assert [line["update"] for line in evaluated] == [10, 20, 24]
    assert made.metrics["updates"] == 24 and made.metrics["rows"] == 192
    assert made.metrics["best_eval_loss"] == min(line["eval_loss"] for line in evaluated)
    assert [found.update for found in checkpoints.complete(tmp_path)] == [24, 18]
    assert job.progress.told[:3] == (24, 24, "updates")


def test_the_golden_curve(tmp_path: Path):
    """The same seed gives the same losses after a refactoring. A change meant to alter them says so in its message."""
    small.fit(
        tmp_path, small.model(), small.rows(48), kept=small.rows(6, seed=9), epochs=2,
        settings=Settings(lr=1e-2, optim=Optim(warmup=0.1), eval=Eval(every=6), log=Log(every=2)),
    )  # fmt: skip
    found = [[line["update"], line.get("loss", line.get("eval_loss"))] for line in lines(tmp_path)]
    golden = json.loads(GOLDEN.read_text())
    assert [update for update, _ in found] == [update for update, _ in golden]
    assert [loss for _, loss in found] == pytest.approx([loss for _, loss in golden], rel=1e-4)


def test_evaluation_is_the_loss_of_training_over_all_rows(tmp_path: Path):
    """A rate of almost nothing: the rows trained on and the rows kept aside are the same ones."""
    data = small.rows(16)
    settings = Settings(lr=1e-12, optim=Optim(name="sgd", weight_decay=0.0))
    small.fit(tmp_path, small.model(), data, kept=data, batch=Batch(rows=16), settings=settings)
    loss, kept = lines(tmp_path)
    assert kept["eval_loss"] == pytest.approx(loss["loss"], rel=1e-6)
    assert kept["eval_rows"] == 16 and kept["eval_tokens"] == loss["tokens"]


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_the_folder_can_be_loaded(tmp_path: Path, kind: str):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    learner = small.model() if kind == "full" else small.adapter()
    made = small.fit(tmp_path, learner, small.rows(16))
    if kind == "full":
        loaded = AutoModelForCausalLM.from_pretrained(made.folder)
        assert loaded.config.use_cache is True
    else:
        loaded = PeftModel.from_pretrained(small.model(), made.folder)
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(loaded.eval()(ids).logits, learner.eval()(ids).logits)
    assert AutoTokenizer.from_pretrained(made.folder).encode("5 6") == [5, 6]
    assert AutoTokenizer.from_pretrained(checkpoints.newest_first(tmp_path)[0]).encode("5 6") == [5, 6]
    assert not list(tmp_path.rglob("*.bin")) and not list(tmp_path.glob(".*"))


def poison(data: list[Encoded], bad: set[int]) -> list[Encoded]:
    """Rows with an infinite weight: their loss is not finite."""
    return [
        Encoded(row.input_ids, row.labels, [math.inf] * len(row.labels), row.source, row.row) if row.row in bad else row
        for row in data
    ]


def test_an_update_without_a_finite_loss_is_skipped_and_written_down(tmp_path: Path):
    data = small.rows(32)
    learner = small.model()
    made = small.fit(
        tmp_path, learner, poison(data, {7}), batch=Batch(rows=8), settings=Settings(lr=1e-2, log=Log(every=1))
    )
    assert made.metrics["skipped_updates"] == 1 and made.metrics["updates"] == 4
    (skipped,) = [json.loads(line) for line in (tmp_path / "skipped_updates.jsonl").read_text().splitlines()]
    assert {"source": "rows.jsonl", "row": 7} in skipped["rows"] and len(skipped["rows"]) == 8
    told = lines(tmp_path)
    assert [line["loss"] is None for line in told] == [line["update"] == skipped["update"] for line in told]
    assert all(bool(parameter.isfinite().all()) for parameter in learner.parameters())


def test_a_skipped_update_leaves_weights_as_they_are(tmp_path: Path):
    learner = small.model()
    before = [parameter.detach().clone() for parameter in learner.parameters()]
    small.fit(tmp_path, learner, poison(small.rows(8), {3}), batch=Batch(rows=8))
    assert all(bool((a == b).all()) for a, b in zip(before, learner.parameters(), strict=True))


def test_three_in_a_row_end_the_training(tmp_path: Path):
    with pytest.raises(StageError, match=r"3 updates in a row, the last 3, .*skipped_updates\.jsonl"):
        small.fit(tmp_path, small.model(), poison(small.rows(64), set(range(64))))
    assert not (tmp_path / "model").exists()


def test_a_full_disk_is_one_sentence_and_leaves_earlier_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import torch

    real, calls = torch.save, []

    def full(thing: Any, file: Any, *more: Any, **keys: Any) -> None:
        calls.append(file)
        if "checkpoint-6" in str(file):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(thing, file, *more, **keys)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(StageError, match=r"checkpoint 6 cannot be written.*No space left.*make room"):
        small.fit(tmp_path, small.model(), small.rows(64), settings=Settings(lr=1e-2, save=Save(every=3)))
    assert [found.update for found in checkpoints.complete(tmp_path)] == [3]
    assert checkpoints.flaw(tmp_path / "checkpoint-3") is None
    assert not (tmp_path / checkpoints.SIDE).exists()


def test_a_checkpoint_of_other_data_is_refused(tmp_path: Path):
    small.fit(tmp_path, small.model(), small.rows(16))
    with pytest.raises(
        DataError, match=f"was made from other data.*Remove the folder {tmp_path}, and the same command begins anew"
    ):
        small.fit(tmp_path, small.model(), small.rows(24))


def test_weights_only_keeps_no_optimizer(tmp_path: Path):
    settings = Settings(lr=1e-2, save=Save(every=2, weights_only=True))
    small.fit(tmp_path, small.model(), small.rows(32), settings=settings)
    newest = checkpoints.newest_first(tmp_path)[0]
    assert (newest / "model.safetensors").is_file() and not (newest / "optimizer.pt").exists()
    assert checkpoints.last_complete(tmp_path)[0] is None


def test_a_stop_leaves_what_can_be_gone_on_from_where_weights_alone_lie(tmp_path: Path):
    data, lone = small.rows(32), Save(every=2, weights_only=True)
    small.fit(tmp_path, small.model(), data, settings=Settings(lr=1e-2, save=lone))
    done: list[int] = []

    class Counting(small.Silent):
        def update(self, now: int, total: int, what: str = "", **shown: Any) -> None:
            done.append(now)

    job = Job("train", tmp_path, tmp_path, progress=Counting(), stopping=lambda: 2 in done)
    with pytest.raises(Interrupted):
        small.fit(tmp_path, small.model(), data, settings=Settings(lr=1e-2, save=Save(every=3)), job=job)
    found, _ = checkpoints.last_complete(tmp_path)
    assert found is not None and found.update == 2


def test_a_model_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A machine that went off soon after left an artifact.json that spoke of empty files."""
    kept: list[str] = []

    def keep(file: Path) -> None:
        kept.append(file.name)
        assert file == tmp_path or not (tmp_path / "model").exists()

    monkeypatch.setattr(write_model, "to_disk", keep)
    small.fit(tmp_path, small.model(), small.rows(8))
    assert {"model.safetensors", "config.json", "tokenizer.json", ".model", tmp_path.name} <= set(kept)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ConfigError, match=r"optim\.name: 'adamw_8bit' needs the package bitsandbytes"):
        small.fit(tmp_path, small.model(), small.rows(8), settings=Settings(lr=1e-2, optim=Optim(name="adamw_8bit")))


@pytest.mark.parametrize(
    ("save", "evaluate", "total", "saved"),
    [(None, None, 100, 10), (None, 7, 100, 7), (4, 7, 100, 4), (None, None, 3, 1)],
)
def test_when_checkpoints_are_written(save: int | None, evaluate: int | None, total: int, saved: int):
    made = rhythm(Settings(lr=1.0, save=Save(every=save), eval=Eval(every=evaluate)), total)
    assert made.save == saved and made.saves(total) and made.evaluates(total) and made.logs(1)


def test_a_stop_of_a_training_that_keeps_weights_alone_promises_nothing(tmp_path: Path):
    """It said that the same command goes on, and that began at the first update."""
    settings = Settings(lr=1e-2, save=Save(every=2, weights_only=True))
    job = Job("train", tmp_path, tmp_path, progress=small.Silent(), stopping=lambda: True)
    with pytest.raises(
        Interrupted, match=r"save\.weights_only\) cannot be gone on from: the same command begins anew\.$"
    ):
        small.fit(tmp_path, small.model(), small.rows(32), settings=settings, job=job)
