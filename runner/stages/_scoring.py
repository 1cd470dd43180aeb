"""Scores the rows of a completions file by reward plugins."""

from collections.abc import Sequence
from typing import Any

from runner.scoring.arguments import keywords
from runner.scoring.rewards import Rewards

Scored = tuple[dict[str, float | None], float | None]


def score(rewards: Rewards, rows: Sequence[dict[str, Any]]) -> list[Scored]:
    """Each row's scores by reward and their weighted sum; rows that failed have none."""
    places = [place for place, row in enumerate(rows) if row["finish_reason"] != "error"]
    answered = [rows[place] for place in places]
    found: list[Scored] = [({}, None)] * len(rows)
    if not answered or not rewards.specs:
        return found
    prompts = [row["messages"][:-1] for row in answered]
    given = keywords(
        answered,
        messages=prompts,
        prompts=["\n".join(str(message["content"]) for message in prompt) for prompt in prompts],
        finish_reason=[row["finish_reason"] for row in answered],
    )
    scores = rewards.score([row["response"] for row in answered], given)
    totals = rewards.total(scores)
    for place, index in zip(places, range(len(answered)), strict=True):
        found[place] = ({name: values[index] for name, values in scores.items()}, totals[index])
    return found
