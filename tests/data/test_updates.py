"""The plan of updates: every row once an epoch, rows whole, the same on any number of devices."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.core.specs import Batch
from runner.data.updates import UpdatePlan

# a data set: for each row the lengths of its sequences
DATA = st.lists(st.lists(st.integers(1, 300), min_size=1, max_size=3), min_size=1, max_size=40)
BATCHES = st.one_of(
    st.builds(Batch, rows=st.integers(1, 20)),
    st.builds(Batch, packs=st.integers(1, 4)),
    st.builds(Batch, tokens=st.integers(1, 2000)),
)
SIZE = 200  # tokens of a pack


def plan(data: list[list[int]], batch: Batch, **keys: object) -> UpdatePlan:
    lengths = [length for row in data for length in row]
    rows = [number for number, row in enumerate(data) for _ in row]
    return UpdatePlan(lengths, rows, batch, seed=7, max_length=SIZE, **keys)  # type: ignore[arg-type]


@given(DATA, BATCHES, st.integers(0, 3))
def test_every_sequence_is_in_exactly_one_update_of_an_epoch(data, batch, epoch):
    made = plan(data, batch).updates(epoch)
    assert sorted(i for update in made for i in update) == list(range(sum(len(row) for row in data)))
    assert all(update for update in made)


@given(DATA, BATCHES)
def test_the_sequences_of_a_row_stay_in_one_update(data, batch):
    made = plan(data, batch)
    seen = Counter(row for update in made.updates(0) for row in {made.rows[i] for i in update})
    assert set(seen.values()) == {1}


@given(DATA, st.integers(1, 20))
def test_rows_of_an_update(data, rows):
    made = plan(data, Batch(rows=rows))
    counts = [len({made.rows[i] for i in update}) for update in made.updates(0)]
    assert all(count == rows for count in counts[:-1])
    assert 1 <= counts[-1] <= rows


@given(DATA, st.integers(1, 4))
def test_an_update_of_packs_can_be_laid_into_them(data, packs):
    made = plan(data, Batch(packs=packs))
    for update in made.updates(0):
        lengths = [made.lengths[i] for i in update]
        alone = len({made.rows[i] for i in update}) == 1
        assert alone or max(lengths) <= SIZE
        assert alone or laid(sorted(lengths, reverse=True), [SIZE] * packs)


def laid(lengths, room):
    """Whether the lengths can be put into the rooms, by trying."""
    if not lengths:
        return True
    tried = set()
    for place, left in enumerate(room):
        if left >= lengths[0] and left not in tried:
            tried.add(left)
            if laid(lengths[1:], [*room[:place], left - lengths[0], *room[place + 1 :]]):
                return True
    return False


@given(DATA, st.integers(1, 2000))
def test_an_update_of_tokens_stays_below_them_unless_one_row_is_larger(data, tokens):
    made = plan(data, Batch(tokens=tokens))
    for update in made.updates(0):
        alone = len({made.rows[i] for i in update}) == 1
        assert alone or sum(made.lengths[i] for i in update) <= tokens


@given(DATA, BATCHES, st.floats(0.1, 4.0), st.one_of(st.none(), st.integers(1, 60)))
@settings(max_examples=50)
def test_the_whole_training_is_its_epochs_one_after_the_other(data, batch, epochs, max_updates):
    made = plan(data, batch, epochs=epochs, max_updates=max_updates)
    assert max_updates is None or made.total == max_updates
    flat = [update for epoch in range(100) for update in made.updates(epoch)][: made.total]
    assert [made.update(number) for number in range(made.total)] == flat
    done = [made.epoch_after(number) for number in range(made.total)]
    assert done == sorted(done)
    if max_updates is None:
        assert done[-1] >= epochs - 1e-6


def test_half_an_epoch_is_half_of_its_updates():
    data = [[10]] * 32
    assert plan(data, Batch(rows=4), epochs=1.5).total == 12
    assert plan(data, Batch(rows=4), epochs=0.5).epoch_after(3) == 0.5


def test_sixteen_rows_make_an_update_when_nothing_is_said():
    assert [len(update) for update in plan([[10]] * 40, Batch()).updates(0)] == [16, 16, 8]


def test_epochs_differ_and_the_same_seed_gives_the_same_plan():
    data = [[length] for length in range(1, 41)]
    made = plan(data, Batch(rows=8))
    assert made.updates(0) != made.updates(1)
    assert made.updates(0) == plan(data, Batch(rows=8)).updates(0)
    other = UpdatePlan(made.lengths, made.rows, Batch(rows=8), seed=8)
    assert made.updates(0) != other.updates(0)


def test_packs_are_filled_well():
    import random

    rng = random.Random(0)
    data = [[min(SIZE, max(5, int(rng.lognormvariate(3.5, 0.7))))] for _ in range(4000)]
    made = plan(data, Batch(packs=4))
    filled = [sum(made.lengths[i] for i in update) / (4 * SIZE) for update in made.updates(0)[:-1]]
    assert sum(filled) / len(filled) > 0.995


def test_an_epoch_deals_rows_of_one_length_anew_and_packs_as_the_others_do():
    data = [[1 + number % 150] for number in range(600)]
    made = plan(data, Batch(packs=1))
    first, second = ([frozenset(update) for update in made.updates(epoch)] for epoch in (0, 1))
    assert len(first) == len(second) and set(first) != set(second)
    shapes = [sorted(sorted(made.lengths[i] for i in update) for update in epoch) for epoch in (first, second)]
    assert shapes[0] == shapes[1]


def test_a_packing_is_kept_beside_the_rows(tmp_path):
    data = [[length] for length in range(1, 150)]
    first = plan(data, Batch(packs=2), beside=tmp_path)
    made = first.updates(0)
    (file,) = tmp_path.glob("packs-*.npy")
    assert plan(data, Batch(packs=2), beside=tmp_path).updates(0) == made == plan(data, Batch(packs=2)).updates(0)
    assert first.digest == plan(data, Batch(packs=2)).digest
    assert list(tmp_path.iterdir()) == [file]
    plan([*data, [7]], Batch(packs=2), beside=tmp_path).updates(0)
    assert len(list(tmp_path.iterdir())) == 2


def test_the_digest_tells_other_data_and_other_batches_apart_and_not_other_budgets():
    data = [[10], [20]]
    digests = {
        plan(data, Batch(rows=1)).digest,
        plan(data, Batch(rows=2)).digest,
        plan([[10], [21]], Batch(rows=1)).digest,
        plan(data, Batch(rows=1), epochs=2).digest,
    }
    assert len(digests) == 4
    assert plan(data, Batch(rows=1, tokens_per_device=64)).digest == plan(data, Batch(rows=1)).digest


def test_an_update_beyond_the_last_is_refused():
    with pytest.raises(IndexError):
        plan([[10]], Batch(rows=1)).update(1)
