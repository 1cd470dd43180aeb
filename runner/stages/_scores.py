"""scores.jsonl: a row an answer, and what the rows come to, over all of them and by source."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runner.scoring.intervals import pass_at, summary
from runner.stages._completions import question_of

FILE = "scores.jsonl"


def line(row: Mapping[str, Any], scores: Mapping[str, float | None], total: float | None) -> dict[str, Any]:
    """One row: the question, the answer, each reward's score, and their weighted sum."""
    made = {name: row.get(name) for name in ("id", "source", "sample", "response", "finish_reason", "reference")}
    return {"question": question_of(dict(row)), **made, "scores": dict(scores), "total": total}


def figures(lines: Sequence[Mapping[str, Any]], rewards: Sequence[str], ks: Sequence[int]) -> dict[str, Any]:
    """Each reward's mean as a number of its own, then the details: counts, intervals, sources, pass@k."""
    made: dict[str, Any] = {
        name: details["mean"] for name, details in _by_reward(lines, rewards).items() if "mean" in details
    }
    few = {}
    for name in rewards:
        for k in ks:
            value, left_out = _pass_at(lines, name, k)
            if value is not None:
                made[f"{name}_pass_at_{k}"] = value
            if left_out:
                few[f"{name}: pass@{k}"] = left_out
    made["rows"] = len(lines)
    made["truncated"] = sum(row["finish_reason"] == "length" for row in lines)
    made["errors"] = sum(row["finish_reason"] == "error" for row in lines)
    made["rewards"] = _by_reward(lines, rewards)
    if few:
        made["pass_at_left_out"] = few  # questions
    sources = dict.fromkeys(str(row["source"]) for row in lines)
    made["sources"] = {
        source: _by_reward([row for row in lines if str(row["source"]) == source], rewards) for source in sources
    }
    return made


def _by_reward(lines: Sequence[Mapping[str, Any]], rewards: Sequence[str]) -> dict[str, dict[str, Any]]:
    questions = [row["id"] for row in lines]
    return {name: summary([row["scores"].get(name) for row in lines], questions) for name in rewards}


def _pass_at(lines: Sequence[Mapping[str, Any]], name: str, k: int) -> tuple[float | None, int]:
    """Mean over the questions, and how many are left out, as fewer than k of their answers have a score.

    None where scores are not 0 or 1, and where all questions are left out.
    """
    by_question: dict[str, list[float]] = {}
    for row in lines:
        score = row["scores"].get(name)
        by_question.setdefault(str(row["id"]), []).extend([] if score is None else [score])
    values = [value for scores in by_question.values() for value in scores]
    if not values or any(value not in (0.0, 1.0) for value in values):
        return None, 0
    each = [pass_at(k, len(scores), int(sum(scores))) for scores in by_question.values() if len(scores) >= k]
    return sum(each) / len(each) if each else None, len(by_question) - len(each)


def told(metrics: Mapping[str, Any], rewards: Sequence[str]) -> list[str]:
    """A line for each reward and source, and for each pass@k that leaves questions out."""
    places = {"all": metrics["rewards"], **(metrics["sources"] if len(metrics["sources"]) > 1 else {})}
    lines = []
    for name in rewards:
        for source, details in places.items():
            where = "" if source == "all" else f" on {Path(source).name}"
            lines.append(f"{name}{where}: {_told(details[name])}")
    few = metrics.get("pass_at_left_out", {})
    return lines + [
        f"{name} leaves {count} questions out: too few of their answers have a score" for name, count in few.items()
    ]


def _told(details: Mapping[str, Any]) -> str:
    if not details["scored"]:
        return "nothing scored"
    if "interval" not in details:
        return f"{details['mean']:.3f}, of one answer"
    low, high = details["interval"]
    counted = f"{details['right']} = " if "right" in details else ""
    over = f" over {details['questions']} questions" if "questions" in details else ""
    without = f", {details['unscored']} without a score" if details["unscored"] else ""
    return f"{counted}{details['mean']:.3f} (95%: {low:.3f} to {high:.3f}{over}{without})"
