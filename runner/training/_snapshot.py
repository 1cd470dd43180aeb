"""What a training holds at one moment, copied to the CPU's memory, so that it can be written while weights change.

Only what changes is copied: weights that do not learn are told as they are. A copy of tensors on a GPU goes through
page-locked memory, as fast as the bus. Where the copy would not fit there is to be none: see `fits`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import torch

PINNED = 2**20  # bytes from which page-locked memory is worth asking for
ROOM = 0.7  # of the free memory, at most, for a copy
CONTAINER = Path("/sys/fs/cgroup")  # whose limit on memory a process in it sees nowhere else


class Copier:
    """Copies trees of tensors. Tensors that share memory share it afterwards. `settle` before a copy is read."""

    def __init__(self) -> None:
        self._made: dict[Any, torch.Tensor] = {}

    def copy(self, value: Any) -> Any:
        """The same tree of dicts, lists and tuples with tensors of its own."""
        if isinstance(value, torch.Tensor):
            return self._tensor(value)
        if isinstance(value, dict):
            return {key: self.copy(part) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self.copy(part) for part in value)
        return value

    def _tensor(self, value: torch.Tensor) -> torch.Tensor:
        key = (value.device, value.data_ptr(), value.shape, value.stride(), value.dtype)
        if value.numel() and key in self._made:
            return self._made[key]
        if value.is_cuda and value.nbytes >= PINNED:
            made = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
            made.copy_(value.detach(), non_blocking=True)
        else:
            made = value.detach().to("cpu", copy=True)
        self._made[key] = made
        return made

    def settle(self) -> None:
        """Wait until all copies have arrived."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()


def changing(model: Any, state: dict[str, Any]) -> dict[str, Any]:
    """What of a model's state may change while it learns."""
    frozen = {weight.data_ptr() for weight in model.parameters() if not weight.requires_grad}
    return {
        name: value
        for name, value in state.items()
        if not (isinstance(value, torch.Tensor) and value.numel() and value.data_ptr() in frozen)
    }


def fits(tree: Any, copies: int = 1) -> bool:
    """Whether so many copies leave room for others in the memory of this machine, or container."""
    return copies * _size(tree) < ROOM * _free()


def _size(tree: Any) -> int:
    """Bytes of a copy; page-locked memory comes in powers of two."""
    parts = {(part.device, part.data_ptr()): part for part in _tensors(tree)}.values()
    return sum(
        1 << (part.nbytes - 1).bit_length() if part.is_cuda and part.nbytes >= PINNED else part.nbytes for part in parts
    )


def _tensors(tree: Any) -> Iterator[torch.Tensor]:
    if isinstance(tree, torch.Tensor):
        yield tree
    elif isinstance(tree, dict | list | tuple):
        for part in tree.values() if isinstance(tree, dict) else tree:
            yield from _tensors(part)


def _free() -> float:
    free: float = psutil.virtual_memory().available
    limit = CONTAINER / "memory.max"
    if limit.is_file() and (told := limit.read_text().strip()).isdigit():
        kept = dict(line.split() for line in (CONTAINER / "memory.stat").read_text().splitlines())
        used = int((CONTAINER / "memory.current").read_text()) - int(kept["inactive_file"])
        free = min(free, int(told) - used)
    return free
