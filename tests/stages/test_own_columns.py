"""What becomes of the columns of a row that is asked: kept, spelled as JSON, or told."""

import datetime
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner.core.errors import ConfigError
from runner.stages._questions import gather
from tests.stages.test_evaluate import evaluate
from tests.stages.test_infer import folder, infer, job, lines

__all__ = ["folder"]
ROOT = Path(__file__).parents[2]
ECHO = "def echo(completions, *, response):\n    return [float(a == b) for a, b in zip(completions, response)]\n"


def written(file: Path, *rows: dict[str, Any]) -> str:
    """A file of rows, by its name."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(file)


def test_values_of_parquet_that_json_has_not_are_spelled(folder: Path, tmp_path: Path) -> None:
    """It was a traceback after all questions had been answered, and again in the next run."""
    row = {
        "prompt": "a",
        "reference": "own",
        "day": datetime.date(2024, 5, 1),
        "raw": b"\xff",
        "exact": Decimal("1.5"),
        "none": float("nan"),
    }
    pq.write_table(
        pa.Table.from_pylist([{**row, "deep": {"when": [datetime.datetime(2024, 5, 1)]}}]), tmp_path / "a.parquet"
    )
    (made,) = lines(Path(infer(folder, prompts=[str(tmp_path / "a.parquet")]).run(job(tmp_path)).path))
    assert (made["day"], made["exact"], made["none"], made["reference"]) == ("2024-05-01", "1.5", None, "own")
    assert made["left_out"] == ["raw"] and "raw" not in made
    assert made["deep"] == {"when": ["2024-05-01T00:00:00"]}


def test_columns_that_an_answer_has_of_its_own_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A reference was lost without a word, and so were ids that are not all different."""
    rows = [{"id": "x", "prompt": name, "reference": "4", "error": "mine"} for name in "ab"]
    found = gather([written(tmp_path / "rows.jsonl", *rows)], [], {}, 0, "modelscope", [ROOT])
    told = capsys.readouterr().out
    assert "an answer has its own error: these columns of the rows are left out" in told
    assert "the rows' ids are not all different" in told
    assert [question.reference for question in found] == ["4", "4"]
    answer = {"messages": [{"role": "user", "content": "a"}], "finish_reason": "error", "reference": "4", "error": "x"}
    (again,) = gather([written(tmp_path / "answers.jsonl", answer)], [], {}, 0, "modelscope", [ROOT])
    assert again.reference == "4" and not capsys.readouterr().out


def test_an_answer_is_not_compared_with_itself(folder: Path, tmp_path: Path) -> None:
    """A reward that asked for the data's `response` got the model's, and told that all was right."""
    plugin = tmp_path / "plugins" / "rewards" / "echo.py"
    plugin.parent.mkdir(parents=True)
    plugin.write_text(ECHO)
    rows = written(tmp_path / "rows.jsonl", {"query": "a", "response": "b"})
    keys: dict[str, Any] = {"prompts": [rows], "reward": {"echo": {}}}
    for stage in (evaluate(folder, **keys), infer(folder, **keys, min_reward=1.0)):
        with pytest.raises(ConfigError, match=r"asks for 'response', which is the answer that the model gave"):
            stage.check([tmp_path, ROOT], "stages.ask")
