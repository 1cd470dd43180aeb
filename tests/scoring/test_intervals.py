"""Intervals against published and enumerated values."""

from itertools import combinations

import pytest

from runner.scoring.intervals import mean_interval, pass_at, summary, wilson


def test_wilson() -> None:
    """Values of R's prop.test without continuity correction."""
    assert wilson(18, 20) == pytest.approx((0.69897, 0.97213), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0.0, 0.16113), abs=1e-4)
    assert wilson(20, 20) == pytest.approx((0.83887, 1.0), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)


def test_pass_at_k_equals_the_enumeration() -> None:
    """Over all choices of k answers."""
    for right in range(6):
        answers = [1] * right + [0] * (5 - right)
        for k in range(1, 6):
            chosen = [any(part) for part in combinations(answers, k)]
            assert pass_at(k, 5, right) == pytest.approx(sum(chosen) / len(chosen))


def test_summary() -> None:
    """Counts where scores are 0 or 1, a mean's interval elsewhere, None left out and counted."""
    made = summary([1.0, 0.0, 1.0, None])
    assert made["right"] == "2/3" and made["mean"] == pytest.approx(2 / 3) and made["unscored"] == 1
    assert made["interval"] == list(wilson(2, 3))
    assert summary([0.5, 1.5])["interval"] == list(mean_interval([0.5, 1.5])) and "right" not in summary([0.5, 1.5])
    assert summary([None]) == {"scored": 0, "unscored": 1}


def test_samples_of_one_question_do_not_make_the_interval_narrow() -> None:
    """Eight answers to each of four questions told the interval of 32 questions."""
    scores, questions = [1.0] * 16 + [0.0] * 16, [place // 8 for place in range(32)]
    made = summary(scores, questions)
    assert made["mean"] == 0.5 and made["right"] == "16/32" and made["questions"] == 4
    assert made["interval"] == list(wilson(2, 4)) and summary(scores)["interval"] == list(wilson(16, 32))
    assert summary([0.8, 0.2, 1.0, None, 1.0], [0, 0, 1, 1, 2])["interval"] == list(mean_interval([0.5, 1.0, 1.0]))
    assert "questions" not in summary([1.0, 0.0], [0, 1])


def test_an_interval_of_a_share_is_within_0_and_1() -> None:
    """It went on beyond 1, and was a point where all questions had the same share."""
    low, high = summary([1.0, 0.0, 1.0, None, 1.0], [0, 0, 1, 1, 2])["interval"]
    assert 0.3 < low < 5 / 6 < high <= 1.0
    assert summary([1.0, 0.0], [0, 0])["interval"] == list(wilson(1, 2))
    assert summary([1.0, 0.0] * 2, [0, 0, 1, 1])["interval"] == list(wilson(2, 4))
    assert summary([1.0, 1.0], [0, 0])["interval"] == list(wilson(1, 1))


def test_several_answers_to_a_question_are_worth_between_one_and_all() -> None:
    """These eight questions with four each say as much as 16 that are independent."""
    scores, questions = [1.0] * 8 + [1.0, 0.0] * 8 + [0.0] * 8, [place // 4 for place in range(32)]
    assert summary(scores, questions)["interval"] == pytest.approx(wilson(8, 16))


def test_one_question_tells_of_its_answers_and_one_answer_of_nothing() -> None:
    assert summary([0.2, 0.6], [0, 0])["interval"] == list(mean_interval([0.2, 0.6]))
    assert "interval" not in summary([0.7], [0])
