"""What is said when a training on its own answers goes wrong, once, with the number; and nothing when all is well."""

from runner.rollouts.alerts import AGAIN, Alerts
from runner.rollouts.figures import Facts


def told(*rollouts: Facts, rewards: dict[str, tuple[int, int]] | None = None) -> list[str]:
    said: list[str] = []
    alerts = Alerts(512, lambda update, sentence: said.append(sentence))
    for one in rollouts:
        alerts.look(one, rewards or {}, 1)
    return said


def fine(**keys: float) -> Facts:
    made = {"groups": 8, "same": 2, "answers": 64, "truncated": 3, "reward": 0.4, "entropy": 1.2, "mismatch": 0.01}
    return Facts(**{**made, **keys})  # type: ignore[arg-type]


def test_a_training_that_goes_well_is_not_disturbed() -> None:
    assert told(*[fine()] * 60) == []


def test_each_trouble_is_told_with_its_number_and_a_remedy() -> None:
    (same,) = told(*[fine(same=7)] * 3)
    assert "in 88% of the last 16 groups" in same and "(mean reward 0.4)" in same and "dynamic_sample=true" in same
    (cut,) = told(*[fine(truncated=32)] * 3)
    assert cut.startswith("50% of the last answers were cut off at 512 tokens. Raise sampling.max_new_tokens")
    (left_out,) = told(fine(), *[fine(left_out=0.75)] * 3)
    assert left_out.startswith("the correction leaves out 75% of what") and "token_truncate" in left_out
    (unscored,) = told(*[fine(unscored=16)] * 3)
    assert unscored.startswith("25% of the last answers have no score, so nothing is learned from them: the rewards")
    (entropy,) = told(*[fine()] * 2, *[fine(entropy=0.01)] * 20)
    assert entropy.startswith("the entropy of a token fell from 1.200 to 0.2") and "epsilon_high" in entropy
    (mismatch,) = told(*[fine()] * 2, *[fine(mismatch=0.4)] * 3)
    assert "differ by 0.140 nats" in mismatch and "0.010 at the start" in mismatch
    (kl,) = told(*[fine(kl=0.0)] * 2, *[fine(kl=2.0)] * 3)
    assert "nats a token away from its reference" in kl and "Raise beta" in kl
    assert told(fine(), rewards={"mine": (300, 5)}) == []
    (failing,) = told(fine(), rewards={"mine": (300, 6)})
    assert failing.startswith("reward mine failed on 6 of the last 300 answers")


def test_equal_answers_are_no_trouble_where_groups_are_not_compared() -> None:
    """PPO learns from one answer to a prompt as from several."""
    said: list[str] = []
    alerts = Alerts(512, lambda update, sentence: said.append(sentence), compared=False)
    for _ in range(3):
        alerts.look(fine(same=8), {}, 1)
    assert said == []


def test_few_groups_say_nothing_and_the_same_is_not_said_again_soon() -> None:
    assert told(fine(same=8, groups=8)) == []
    assert len(told(*[fine(same=8)] * AGAIN)) == 1
    assert len(told(*[fine(same=8)] * (AGAIN + 2))) == 2
