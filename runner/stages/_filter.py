"""Leaves completions out before they are written: truncated ones, and those whose rewards do not reach a bar."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from runner.core.specs import Reward
from runner.scoring.rewards import Rewards
from runner.stages._scoring import score


class Filter:
    """Use as a context manager; call it with rows. Rows that failed are always kept, with their error.

    columns: that the questions have.
    """

    def __init__(
        self, truncated: str, min_reward: float | None, rewards: Mapping[str, Reward], roots: Sequence[Path],
        columns: Collection[str] = (),
    ) -> None:  # fmt: skip
        self.truncated, self.min_reward = truncated, min_reward
        self.rewards = Rewards(rewards if min_reward is not None else {}, roots, columns=columns)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.rewards.close()

    def __call__(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The rows that stay, with their scores where they were scored."""
        kept = [row for row in rows if self.truncated == "keep" or row["finish_reason"] != "length"]
        if self.min_reward is None:
            return kept
        bar, scored = self.min_reward, score(self.rewards, kept)
        return [
            {**row, "rewards": scores} if total is not None else row
            for row, (scores, total) in zip(kept, scored, strict=True)
            if row["finish_reason"] == "error" or (total is not None and total >= bar)
        ]
