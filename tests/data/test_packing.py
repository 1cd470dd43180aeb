"""Packing by best fit over a whole data set: nothing lost, nothing too full, as tight as the slow way."""

from bisect import bisect_left, insort
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from runner.data.packing import dealt, kept_slots, slots

SIZES = st.lists(st.integers(1, 120), max_size=80)
ROOM = 100


def one_by_one(sizes: list[int]) -> int:
    """How many packs best fit needs when it takes one row after the other, the longest first."""
    left: list[int] = []
    for size in sorted(sizes, reverse=True):
        tightest = bisect_left(left, size)
        insort(left, (left.pop(tightest) if tightest < len(left) else max(ROOM, size)) - size)
    return len(left)


@given(sizes=SIZES, seed=st.integers(0, 3))
def test_every_row_is_in_one_pack_and_no_pack_is_too_full(sizes: list[int], seed: int) -> None:
    """A row larger than a pack is alone; as many packs as one by one."""
    held = np.asarray(sizes, dtype=np.int64)
    packs = dealt(held, slots(held, ROOM), f"{seed}")
    assert sorted(place for pack in packs for place in pack.tolist()) == list(range(len(sizes)))
    assert all(len(pack) == 1 or held[pack].sum() <= ROOM for pack in packs)
    assert len(packs) == one_by_one(sizes)


@given(sizes=SIZES)
def test_dealing_anew_changes_rows_of_one_size_alone(sizes: list[int]) -> None:
    """The sizes that lie together stay."""
    held = np.asarray(sizes, dtype=np.int64)
    slot = slots(held, ROOM)
    shapes = [Counter(tuple(sorted(held[pack].tolist())) for pack in dealt(held, slot, seed)) for seed in ("a", "b")]
    assert shapes[0] == shapes[1]


def test_a_long_tailed_data_set_is_packed_full() -> None:
    """Over 99% at 8,192 tokens."""
    sizes = np.clip(np.random.RandomState(0).lognormal(6.2, 0.9, 50_000).astype(np.int64), 8, 8192)
    pack = slots(sizes, 8192)
    assert sizes.sum() / ((int(pack.max()) + 1) * 8192) > 0.99


def test_a_kept_packing_that_was_cut_is_made_anew(tmp_path) -> None:
    sizes = np.array([5, 3, 2])
    made = kept_slots(sizes, 5, tmp_path)
    (file,) = tmp_path.iterdir()
    for content in (file.read_bytes()[:-4], b"", b"no array"):
        file.write_bytes(content)
        assert kept_slots(sizes, 5, tmp_path).tolist() == made.tolist()
        assert np.load(file).tolist() == made.tolist()


def test_a_folder_that_cannot_be_written_is_no_hindrance(tmp_path) -> None:
    """The packing is the same."""
    sizes = np.asarray([60, 40, 30])
    assert kept_slots(sizes, ROOM, tmp_path / "gone").tolist() == slots(sizes, ROOM).tolist()
