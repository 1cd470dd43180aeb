"""Cutting an update: nothing lost, nothing twice, within the budget, even over devices."""

import random

from hypothesis import given
from hypothesis import strategies as st

from runner.core.specs import Batch
from runner.data.micro_batches import cost, cut
from runner.data.updates import UpdatePlan

LENGTHS = st.lists(st.integers(1, 300), min_size=1, max_size=40)
WORLD = st.integers(1, 5)


def singles(lengths: list[int]) -> list[tuple[int, ...]]:
    return [(i,) for i in range(len(lengths))]


@given(LENGTHS, st.integers(1, 1000), WORLD, st.booleans())
def test_every_sequence_lies_in_exactly_one_micro_batch(lengths, budget, world, packed):
    parts = cut(lengths, singles(lengths), budget, world, packed)
    assert len(parts) == world
    real = [i for part in parts for micro in part if not micro.filler for i in micro.sequences]
    assert sorted(real) == list(range(len(lengths)))


@given(LENGTHS, st.integers(1, 1000), WORLD, st.booleans())
def test_the_budget_holds_unless_one_sequence_is_longer(lengths, budget, world, packed):
    for part in cut(lengths, singles(lengths), budget, world, packed):
        for micro in part:
            assert len(micro.sequences) == 1 or cost(lengths, [micro.sequences], packed) <= budget


@given(LENGTHS, st.integers(1, 1000), WORLD, st.booleans())
def test_devices_have_the_same_number_and_fillers_only_where_work_ran_out(lengths, budget, world, packed):
    parts = cut(lengths, singles(lengths), budget, world, packed)
    assert len({len(part) for part in parts}) == 1
    assert sum(micro.filler for part in parts for micro in part) < world
    fillers = [micro for part in parts for micro in part if micro.filler]
    assert all(lengths[micro.sequences[0]] == min(lengths) for micro in fillers)


@given(LENGTHS, st.integers(1, 1000), WORLD, st.booleans())
def test_pairs_are_never_parted(lengths, budget, world, packed):
    lengths = lengths + lengths
    pairs = [(2 * i, 2 * i + 1) for i in range(len(lengths) // 2)]
    real = [m for part in cut(lengths, pairs, budget, world, packed) for m in part if not m.filler]
    assert sorted(i for micro in real for i in micro.sequences) == list(range(len(lengths)))
    assert all(i + 1 in micro.sequences for micro in real for i in micro.sequences if i % 2 == 0)


def test_length_grouping_spares_padding():
    rng = random.Random(0)
    lengths = [min(1450, max(40, int(rng.lognormvariate(6.2, 0.7)))) for _ in range(16)]
    (part,) = cut(lengths, singles(lengths), 4096, 1, packed=False)
    slots = sum(cost(lengths, [micro.sequences], packed=False) for micro in part)
    assert slots < 1.2 * sum(lengths) < 16 * max(lengths)


def test_packs_are_even():
    rng = random.Random(0)
    lengths = [rng.randint(20, 500) for _ in range(64)]
    for world in (1, 2, 4):
        parts = cut(lengths, singles(lengths), 2048, world, packed=True)
        filled = [cost(lengths, [micro.sequences], packed=True) for part in parts for micro in part]
        assert max(filled) < 1.1 * min(filled)
        assert max(filled) > 2048 * 0.8 or world > 1


def test_full_packs_of_a_plan_stay_as_many():
    """An update of 16 packs of 8,192 tokens, 99.9% full, was cut into 20 micro-batches for four devices."""
    rng = random.Random(0)
    lengths = [min(8192, max(20, int(rng.lognormvariate(6.0, 1.0)))) for _ in range(6000)]
    plan = UpdatePlan(lengths, range(len(lengths)), Batch(packs=16), 42, max_length=8192)
    for world in (1, 4, 8):
        for number in range(5):
            chosen = plan.update(number)
            parts = cut(lengths, [(i,) for i in chosen], 8192, world, packed=True)
            assert [len(part) for part in parts] == [16 // world] * world
            assert sorted(i for part in parts for micro in part for i in micro.sequences) == sorted(chosen)
            filled = [cost(lengths, [micro.sequences], packed=True) for part in parts for micro in part]
            assert 0.99 * 8192 < min(filled) <= max(filled) <= 8192


def test_devices_get_even_work():
    rng = random.Random(1)
    lengths = [rng.randint(20, 500) for _ in range(64)]
    for packed in (False, True):
        parts = cut(lengths, singles(lengths), 2048, 4, packed)
        loads = [sum(cost(lengths, [micro.sequences], packed) for micro in part) for part in parts]
        assert max(loads) < 1.35 * min(loads)


def test_an_update_without_rows_gives_every_device_nothing():
    assert cut([], [], 100, 3, packed=True) == [[], [], []]


def test_fewer_rows_than_devices():
    parts = cut([5, 9], singles([5, 9]), 100, 4, packed=False)
    assert [[micro.filler for micro in part] for part in parts] == [[False], [False], [True], [True]]
