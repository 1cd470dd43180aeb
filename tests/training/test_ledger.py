"""The books of a training and the lines it tells."""

import json
import os
import resource
from pathlib import Path

import pytest

from runner.training.ledger import Ledger, append, cut_back
from runner.training.planned import Size

SIZE = Size(rows=4, tokens=90, trained_tokens=40, slots=100)


def test_a_line_tells_of_the_updates_since_the_line_before(tmp_path: Path):
    books = Ledger(tmp_path)
    for loss in (1.0, 3.0):
        books.add(SIZE, loss, 0.5, {"entropy": loss / 2})
    line = books.line(2, 0.5, 0.7, 1e-4, mfu=None)
    assert line == {
        "update": 2, "epoch": 0.5, "loss": 2.0, "grad_norm": 0.7, "lr": 1e-4, "rows": 8, "tokens": 180,
        "trained_tokens": 80, "padding_share": 0.1, "seconds": 1.0,
        "tokens_per_s": 180.0, "trained_tokens_per_s": 80.0, "mfu": None, "entropy": 1.0,
    }  # fmt: skip
    books.add(SIZE, 5.0, 0.5, {})
    assert books.line(3, 0.75, 0.7, 1e-4)["loss"] == 5.0
    assert books.whole.updates == 3 and books.whole.loss == 3.0


def test_an_update_that_is_not_finite_is_left_out_of_the_mean(tmp_path: Path):
    books = Ledger(tmp_path)
    books.add(SIZE, 1.0, 0.5, {})
    books.add(SIZE, float("nan"), 0.5, {})
    line = books.line(2, 0.5, float("inf"), 1e-4)
    assert line["loss"] == 1.0 and line["grad_norm"] is None and line["rows"] == 8


def test_skipped_updates_in_a_row(tmp_path: Path):
    books = Ledger(tmp_path)
    told = []
    for update, bad in enumerate([True, False, True, True, False], start=1):
        if bad:
            books.skipped.append(update)
        books.add(SIZE, 1.0, 0.1, {})
        told.append(books.in_a_row())
    assert told == [1, 0, 1, 2, 0]


def test_books_are_restored_as_they_were(tmp_path: Path):
    books = Ledger(tmp_path)
    books.add(SIZE, 1.0, 0.5, {"entropy": 1.0})
    books.skipped.append(1)
    books.evaluation(1, 0.4, {"eval_accuracy": 0.5})
    again = Ledger(tmp_path)
    again.restore(json.loads(json.dumps(books.state())))
    assert again == books


def test_the_best_evaluation_is_the_lowest_finite_one(tmp_path: Path):
    books = Ledger(tmp_path)
    for update, loss in ((1, 0.5), (2, float("nan")), (3, 0.4), (4, 0.6)):
        books.evaluation(update, loss, {})
    assert books.best == (3, 0.4) and books.eval_loss == 0.6


def test_lines_are_appended_whole_and_without_nan(tmp_path: Path):
    file = tmp_path / "metrics.jsonl"
    append(file, {"update": 1, "loss": float("nan")})
    append(file, {"update": 2, "loss": 0.5})
    assert file.read_text() == '{"update": 1, "loss": null}\n{"update": 2, "loss": 0.5}\n'


def test_a_line_that_the_disk_takes_in_part_is_an_error(tmp_path: Path):
    """It was half a line without a word, and the next one stood behind it."""
    file = tmp_path / "metrics.jsonl"
    append(file, {"update": 1, "loss": 2.0})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 10, limits[1]))
    try:
        with pytest.raises(OSError, match=r"File too large: .*metrics\.jsonl"):
            append(file, {"update": 2, "loss": 1.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    cut_back(file, 2)
    assert [json.loads(line)["update"] for line in file.read_text().splitlines()] == [1]


def test_lines_after_a_checkpoint_and_a_torn_one_are_cut_back(tmp_path: Path):
    file = tmp_path / "metrics.jsonl"
    for update in (1, 2, 3):
        append(file, {"update": update, "told": "two\u2028lines"})
    with open(file, "a") as stream:
        stream.write('{"update": 2, "lo')
    cut_back(file, 2)
    assert file.read_text() == "".join(f'{{"update": {n}, "told": "two\u2028lines"}}\n' for n in (1, 2))
    cut_back(tmp_path / "absent.jsonl", 2)
    assert os.listdir(tmp_path) == ["metrics.jsonl"]


def test_an_evaluation_that_will_be_made_again_leaves_no_second_line(tmp_path: Path) -> None:
    """A checkpoint of a stop in an evaluation; the next start evaluated, and was killed before it saved."""
    file = tmp_path / "metrics.jsonl"
    lines = [{"update": 2, "loss": 1.0}, {"update": 2, "eval_loss": 1.0}, {"update": 4, "loss": 0.5}]
    for line in [*lines, {"update": 4, "eval_loss": 0.4}, {"update": 6, "loss": 0.3}]:
        append(file, line)
    cut_back(file, 4, evaluated=False)
    assert [json.loads(line) for line in file.read_text().splitlines()] == lines
