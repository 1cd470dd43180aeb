"""The data loader of planned updates: item u is update u, made for this device, in this order, once.

It is not handed to accelerate, which would deal the updates out to devices a second time. On resume Trainer skips the
first updates by their numbers, so that none is made in vain; a batch sampler of single numbers is what it needs there.
Of updates that are made when they begin it carries the numbers alone.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from runner.training.algorithm import LiveUpdates, Updates


class UpdateNumbers(Sampler[list[int]]):
    """[0], [1], ... as batches of one."""

    def __init__(self, total: int) -> None:
        self.total = total

    def __iter__(self) -> Iterator[list[int]]:
        return ([number] for number in range(self.total))

    def __len__(self) -> int:
        return self.total


def loader(updates: Updates | LiveUpdates, workers: int) -> DataLoader[Any]:
    """A loader with a generator of its own, so that reading draws no random number of the training."""
    live = isinstance(updates, LiveUpdates)
    return DataLoader(
        range(len(updates)) if live else updates,  # type: ignore[arg-type]
        batch_sampler=UpdateNumbers(len(updates)),
        collate_fn=_only,
        num_workers=0 if live else workers,
        generator=torch.Generator().manual_seed(0),
    )


def _only(items: list[Any]) -> Any:
    return items[0]
