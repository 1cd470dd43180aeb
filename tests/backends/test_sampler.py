"""Draws follow the distribution that transformers' own warpers give, and penalties equal its processors'."""

import random
from pathlib import Path
from typing import Any

import pytest

from runner.backends._sampling import end_ids, generation_config, resolve
from runner.core.errors import ModelError
from runner.core.specs import Sampling


class Chosen(random.Random):
    """Random numbers that were chosen beforehand."""

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self.values = values

    def random(self) -> float:
        """The next one."""
        return self.values.pop(0)


def shares(logits: Any, sampling: Sampling, draws: int = 4000) -> Any:
    """How often each token is drawn, at evenly spaced random numbers."""
    import torch

    from runner.backends._sampler import Row, Sampler

    numbers = [(place + 0.5) / draws for place in range(draws)]
    rows = [Row(place, [], Chosen([number])) for place, number in enumerate(numbers)]
    Sampler(resolve(sampling, {})).draw(logits.expand(draws, -1), rows)
    return torch.bincount(torch.tensor([row.new[0] for row in rows]), minlength=logits.shape[-1]) / draws


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"temperature": 0.5},
        {"top_k": 7},
        {"top_p": 0.8},
        {"min_p": 0.1},
        {"temperature": 1.5, "top_k": 20, "top_p": 0.7, "min_p": 0.05},
    ],
)
@pytest.mark.parametrize("size", [60, 5000])
def test_draws_follow_the_distribution_of_transformers(keys: dict[str, Any], size: int) -> None:
    """Within the spacing of the random numbers, also where only a part of the vocabulary is sorted."""
    import torch
    from transformers.generation import logits_process as theirs

    logits = torch.randn(1, size, generator=torch.Generator().manual_seed(1)) * 2
    sampling = Sampling(**{"temperature": 1.0, **keys})
    expected = logits / float(sampling.temperature or 1)
    if sampling.top_k:
        expected = theirs.TopKLogitsWarper(sampling.top_k)(None, expected)
    if sampling.top_p:
        expected = theirs.TopPLogitsWarper(sampling.top_p)(None, expected)
    if sampling.min_p:
        expected = theirs.MinPLogitsWarper(sampling.min_p)(None, expected)
    difference = (shares(logits, sampling) - expected.softmax(-1)[0]).abs().max()
    assert difference < 1 / 2000


def test_penalties() -> None:
    """Repetition as transformers computes it; presence once, frequency by count, both on generated tokens only."""
    import torch
    from transformers.generation.logits_process import RepetitionPenaltyLogitsProcessor

    from runner.backends._sampler import Row, Sampler

    logits = torch.randn(2, 30, generator=torch.Generator().manual_seed(1))
    rows = [Row(0, [1, 2, 2], random.Random(0), new=[5, 5, 7]), Row(1, [3], random.Random(0))]
    sampler = Sampler(resolve(Sampling(repetition_penalty=1.3), {}))
    made = sampler._penalised(logits, rows)
    for row, scores, before in zip(rows, made, logits, strict=True):
        expected = RepetitionPenaltyLogitsProcessor(1.3)(torch.tensor([row.ids + row.new]), before[None].clone())
        assert torch.equal(scores, expected[0])
    made = Sampler(resolve(Sampling(presence_penalty=0.5, frequency_penalty=0.25), {}))._penalised(logits, rows)
    changed = (logits - made)[0]
    assert changed[5] == pytest.approx(1.0) and changed[7] == pytest.approx(0.75) and changed.count_nonzero() == 2
    assert torch.equal(made[1], logits[1])


@pytest.mark.parametrize(
    ("own", "config", "expected"),
    [
        ({}, {}, (0.0, 0, 1.0)),
        ({}, {"do_sample": True}, (1.0, 0, 1.0)),
        ({}, {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95}, (0.6, 20, 0.95)),
        ({"temperature": 0.0}, {"do_sample": True, "temperature": 0.6}, (0.0, 0, 1.0)),
        ({"temperature": 0.3, "top_k": -1}, {"top_k": 20}, (0.3, 0, 1.0)),
        ({}, {"temperature": 0.6}, (0.0, 0, 1.0)),
    ],
)
def test_what_is_left_open_follows_the_model(own: dict[str, Any], config: dict[str, Any], expected: Any) -> None:
    """Temperature, top_k and top_p from the recipe first, the model's generation config second."""
    made = resolve(Sampling(**own), config)
    assert (made.temperature, made.top_k, made.top_p) == expected


def test_end_ids_join_the_config_and_the_tokenizer() -> None:
    """One id, a list of ids or none."""

    class Tokenizer:
        eos_token_id = 2

    assert end_ids({"eos_token_id": [5, 6]}, Tokenizer()) == {2, 5, 6}
    assert end_ids({"eos_token_id": 5}, Tokenizer()) == {2, 5}
    assert end_ids({}, Tokenizer()) == {2}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "is no JSON: "),
        ("[]", "holds list where keys should be"),
        ('{"eos_token_id": "</s>"}', "eos_token_id should be a number, not '</s>'"),
        ('{"eos_token_id": [1, "</s>"]}', "eos_token_id should be a number, not '</s>'"),
        ('{"temperature": "hot"}', "temperature should be a number, not 'hot'"),
    ],
)
def test_a_generation_config_that_is_none(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "generation_config.json").write_text(text)
    with pytest.raises(ModelError, match=f"generation_config.json: {told}"):
        generation_config(tmp_path)
