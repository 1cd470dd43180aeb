"""Sequences whose items are made, or read, when they are asked for."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TypeVar, overload

Item = TypeVar("Item", covariant=True)


class Lazy(Sequence[Item]):
    """A kind of its own says how many there are and makes one; a slice is a list of some."""

    @abstractmethod
    def one(self, place: int) -> Item:
        """The item at a place."""

    @overload
    def __getitem__(self, place: int) -> Item: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Item]: ...
    def __getitem__(self, place: int | slice) -> Item | Sequence[Item]:
        if isinstance(place, slice):
            return [self.one(i) for i in range(*place.indices(len(self)))]
        return self.one(place)
