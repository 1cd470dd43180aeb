"""Tensors of a micro-batch, padded and packed."""

from dataclasses import replace

import pytest
import torch

from runner.core.types import Encoded
from runner.data.collate import collate, trained

LONG = Encoded([5, 6, 7, 8], [-100, -100, 7, 8], [0.0, 0.0, 0.5, 2.0])
SHORT = Encoded([9, 10], [9, 10], None)


def test_padded():
    made = collate([LONG, SHORT], [3, 8])
    assert made.inputs["input_ids"].tolist() == [[5, 6, 7, 8], [9, 10, 0, 0]]
    assert made.inputs["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert made.places.tolist() == [1, 2, 4]
    assert made.targets.tolist() == [7, 8, 10]
    assert made.weights.tolist() == [0.5, 2.0, 1.0]
    assert made.owners.tolist() == [0, 0, 1]
    assert (made.sequences, made.tokens, made.slots) == ((3, 8), 6, 8)


def test_packed():
    made = collate([LONG, SHORT], [3, 8], packed=True)
    assert made.inputs["input_ids"].tolist() == [[5, 6, 7, 8, 9, 10]]
    assert made.inputs["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1]]
    assert made.inputs["cu_seq_lens_q"].tolist() == [0, 4, 6]
    assert made.inputs["cu_seq_lens_q"].dtype == torch.int32
    assert made.inputs["max_length_q"] == 4 and isinstance(made.inputs["max_length_q"], int)
    assert "attention_mask" not in made.inputs
    assert made.places.tolist() == [1, 2, 4]
    assert (made.tokens, made.slots) == (6, 6)


def test_a_first_token_is_never_trained():
    assert trained(SHORT) == [(1, 1.0)]
    assert collate([Encoded([4], [4], None)], [0]).places.tolist() == []


def test_a_filler_weighs_nothing():
    made = collate([LONG], [0], filler=True)
    assert made.weights.tolist() == [0.0, 0.0] and made.places.tolist() == [1, 2]


def test_a_padding_token_that_is_also_a_word_stays_trained():
    """Models whose padding is their end of turn: nothing may be masked by its id."""
    row = Encoded([5, 0, 0], [-100, 0, 0], None)
    made = collate([row, LONG], [0, 1])
    assert made.targets.tolist()[:2] == [0, 0]
    assert made.inputs["attention_mask"].tolist()[0] == [1, 1, 1, 0]


def test_what_an_algorithm_knows_of_sequences_and_tokens_travels_with_them():
    first = replace(LONG, values={"advantage": 2.0}, per_token={"reference": [0.1, 0.2, 0.3, 0.4]})
    second = replace(SHORT, values={"advantage": -1.0}, per_token={"reference": [0.5, 0.6]})
    micro = collate([first, second], [0, 1], packed=True)
    assert micro.values["advantage"].tolist() == [2.0, -1.0]
    assert micro.per_token["reference"].tolist() == pytest.approx([0.3, 0.4, 0.6])
    assert micro.per_token["reference"].shape == micro.targets.shape
