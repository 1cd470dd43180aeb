"""Where an engine gets its prompts from while it works: a list of its own, or the queue that several replicas share."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from queue import Empty
from typing import Any, Protocol

from runner.backends._completion import Prompt


@dataclass(frozen=True)
class Ask:
    """A prompt, its place in the input and its seed."""

    place: int
    prompt: Prompt
    seed: int


class Feed(Protocol):
    """A source of prompts."""

    def take(self, count: int, wait: bool) -> list[Ask]:
        """At most `count` prompts, none when there is none now; with `wait` none only when there will be no more."""
        ...

    def pulse(self) -> None:
        """Called between the steps of the work, often; may raise to end it."""
        ...


class ListFeed:
    """All prompts, each made when it is taken. beat: what `pulse` does."""

    def __init__(self, asks: Iterable[Ask], beat: Callable[[], None] | None = None) -> None:
        self.left, self.beat = iter(asks), beat

    def take(self, count: int, wait: bool) -> list[Ask]:
        """See `Feed.take`."""
        return list(islice(self.left, count))

    def pulse(self) -> None:
        """See `Feed.pulse`."""
        if self.beat is not None:
            self.beat()


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

    def pulse(self) -> None:
        """See `Feed.pulse`: the process that fills the queue decides."""


def chunks(total: int, takers: int) -> list[int]:
    """Sizes of chunks for several takers: large first, small at the end, so that all end together."""
    sizes, left = [], total
    while left:
        sizes.append(min(left, max(8, left // (2 * takers))))
        left -= sizes[-1]
    return sizes


def cut(asks: Sequence[Ask], takers: int) -> Iterator[list[Ask]]:
    """The prompts in chunks of these sizes."""
    at = 0
    for size in chunks(len(asks), takers):
        yield list(asks[at : at + size])
        at += size
