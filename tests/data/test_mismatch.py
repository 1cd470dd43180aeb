"""Questions with answers to other questions."""

from dataclasses import replace

import pytest

from runner.core.errors import DataError
from runner.core.types import Encoded
from runner.data.mismatch import Mismatched, first_trained
from tests.algorithms import judged


def test_each_question_gets_an_answer_of_another_row():
    own = judged.labelled(12)
    made = Mismatched(own, 7, None, "mix")
    answers = [one.input_ids[first_trained(one) :] for one in own]
    for asked, other in zip(own, made, strict=True):
        start = first_trained(asked)
        assert other.input_ids[:start] == asked.input_ids[:start] and set(other.labels[:start]) == {-100}
        assert other.input_ids[start:] == other.labels[start:]
        assert other.input_ids[start:] in answers and other.input_ids != asked.input_ids
        assert other.row == asked.row and other.values == {}
    assert list(made) == list(Mismatched(own, 7, None, "mix")) != list(Mismatched(own, 8, None, "mix"))


def test_rows_of_the_same_question_are_passed_over():
    """As in data made of pairs: each question comes twice, one after the other."""
    own = judged.pairs(10)
    for seed in range(20):
        for asked, other in zip(own, Mismatched(own, seed, None, "mix"), strict=True):
            start = first_trained(asked)
            partner = next(one for one in own if one.input_ids[first_trained(one) :] == other.input_ids[start:])
            assert partner.row != asked.row


def test_where_all_ask_the_same_another_row_serves():
    own = [judged.sequence([3, 4], [5 + n], n) for n in range(4)]
    for asked, other in zip(own, Mismatched(own, 0, None, "mix"), strict=True):
        assert other.input_ids[:2] == [3, 4] and other.input_ids != asked.input_ids


def test_they_fit_max_length_and_keep_weights():
    own = [replace(one, weights=[0.5] * len(one.input_ids)) for one in judged.labelled(12)]
    limit = max(len(one.input_ids) for one in own)
    short = Mismatched(own, 1, limit - 4, "mix")
    assert max(len(one.input_ids) for one in short) == limit - 4
    for one in short:
        assert one.weights is not None and len(one.input_ids) == len(one.labels) == len(one.weights)
        assert {w for w, label in zip(one.weights, one.labels, strict=True) if label != -100} <= {0.5}


def test_one_row_is_too_few():
    with pytest.raises(DataError, match=r"mix\.validation: 1 row, and kto measures against answers to other questions"):
        Mismatched([Encoded([1, 2], [-100, 2], None)], 0, None, "mix.validation")
