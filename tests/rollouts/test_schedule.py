"""Which update learns from which prompts: every prompt once an epoch, whatever is shared by updates."""

from itertools import chain

import pytest

from runner.rollouts.schedule import Schedule


@pytest.mark.parametrize(("each", "parts", "passes"), [(4, 1, 1), (4, 3, 1), (3, 2, 2), (7, 5, 3)])
def test_every_prompt_is_learned_from_once_a_pass(each: int, parts: int, passes: int) -> None:
    made = Schedule(20, each, parts, passes)
    learned: list[int] = []
    for update in range(made.total):
        place = made.place(update)
        assert place.first == (update == made.first(place.rollout))
        learned += made.parts(place.rollout)[place.part]
    assert sorted(learned) == sorted(list(range(20)) * passes)
    assert made.epoch_after(made.total - 1) == pytest.approx(1.0)


def test_max_updates_goes_over_as_many_epochs_as_it_takes() -> None:
    made = Schedule(6, 2, 2, 1, max_updates=7)
    assert made.total == 7 and [made.place(n).rollout for n in range(7)] == [0, 0, 1, 1, 2, 2, 3]
    assert len(made.parts(3)) == 1


def test_the_reserve_is_all_others_in_an_order_of_its_own() -> None:
    made = Schedule(20, 4, 2)
    taken = set(chain(*made.parts(1)))
    assert sorted([*made.reserve(1), *taken]) == list(range(20))
    assert list(made.reserve(1)) == list(made.reserve(1)) != sorted(made.reserve(1))


def test_the_digest_tells_schedules_apart() -> None:
    ways = [Schedule(20, 4), Schedule(20, 5), Schedule(20, 4, 2), Schedule(20, 4, 1, 2), Schedule(20, 4, seed=1)]
    assert len({made.digest for made in ways}) == 5
