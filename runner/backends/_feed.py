"""Where an engine gets its prompts from while it works: a list of its own, or the queue that several replicas share."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from queue import Empty
from typing import Any, Protocol


@dataclass(frozen=True)
class Ask:
    """A prompt, its place in the input and its seed."""

    place: int
    prompt: str
    seed: int


class Feed(Protocol):
    """A source of prompts."""

    def take(self, count: int, wait: bool) -> list[Ask]:
        """At most `count` prompts, none when there is none now; with `wait` none only when there will be no more."""
        ...


class ListFeed:
    """All prompts, there from the start."""

    def __init__(self, asks: Iterable[Ask]) -> None:
        self.left = deque(asks)

    def take(self, count: int, wait: bool) -> list[Ask]:
        """See `Feed.take`."""
        return [self.left.popleft() for _ in range(min(count, len(self.left)))]


class QueueFeed:
    """Chunks from a queue shared with other processes, up to a None for each of them."""

    def __init__(self, queue: Any) -> None:
        self.queue, self.over = queue, False
        self.left: deque[Ask] = deque()

    def take(self, count: int, wait: bool) -> list[Ask]:
        """See `Feed.take`; a chunk is taken from the queue when the one before is used up."""
        if not self.left and not self.over:
            try:
                chunk = self.queue.get(block=wait)
            except Empty:
                return []
            self.over = chunk is None
            self.left.extend(chunk or ())
        return [self.left.popleft() for _ in range(min(count, len(self.left)))]


def chunks(total: int, takers: int) -> list[int]:
    """Sizes of chunks for several takers: large first, small at the end, so that all end together."""
    sizes, left = [], total
    while left:
        sizes.append(min(left, max(8, left // (2 * takers))))
        left -= sizes[-1]
    return sizes
