"""The rolling batch gives what transformers' own generate gives row by row, whatever the budget makes of the batch."""

import functools
import random
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from runner.backends._sampling import resolve
from runner.core.specs import Sampling
from tests.tiny import tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tiny Llama with random weights, and sharper logits so that greedy choices are no ties."""
    import torch
    from transformers import AutoModelForCausalLM

    made = AutoModelForCausalLM.from_pretrained(tiny_model(tmp_path_factory.mktemp("tiny"))).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(3)
    return made


def prompts(count: int = 12) -> list[list[int]]:
    """Prompts of 3 to 40 tokens."""
    chance = random.Random(0)
    return [[chance.randrange(3, 300) for _ in range(chance.randrange(3, 40))] for _ in range(count)]


def rolled(model: Any, sampling: Sampling, budget: int, ends: set[int], context: int = 4096) -> list[Any]:
    """All rows, finished, in the order of the prompts."""
    from runner.backends._rolling import Rolling
    from runner.backends._sampler import Row, Sampler

    rows = [Row(place, ids, random.Random(place)) for place, ids in enumerate(prompts())]
    rolling = Rolling(model, Sampler(resolve(sampling, {})), ends, budget, context, sampling.max_new_tokens)
    widest = 0
    for _ in rolling.steps(deque(sorted(rows, key=lambda row: -len(row.ids)))):
        alive = [slot for slot in rolling.slots if slot.row.finish_reason is None]
        if len(alive) > 1:
            widest = max(widest, len(alive) * max(slot.held for slot in alive))
    assert widest <= budget + len(rows)  # a step may pass the budget by a token a row
    return rows


def generated(model: Any, ends: set[int], new: int) -> list[list[int]]:
    """Greedy answers of transformers, prompt by prompt."""
    import torch

    found = []
    for ids in prompts():
        made = model.generate(
            input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long), do_sample=False,
            max_new_tokens=new, eos_token_id=sorted(ends), pad_token_id=0,
        )  # fmt: skip
        found.append(made[0, len(ids) :].tolist())
    return found


@pytest.mark.parametrize("budget", [1, 150, 400, 100_000])
def test_greedy_answers_equal_generate_under_any_budget(model: Any, budget: int) -> None:
    """Rows end at different times, leave, are sent back to wait and join again: the tokens stay the same."""
    ends = set(range(100, 130))  # many end tokens, so that answers differ in length
    expected = generated(model, ends, 30)
    assert len({len(answer) for answer in expected}) > 4
    rows = rolled(model, Sampling(max_new_tokens=30, temperature=0.0), budget, ends)
    assert [row.new for row in rows] == expected
    for row in rows:
        assert row.finish_reason == ("stop" if row.new[-1] in ends else "length")


def test_sampled_answers_do_not_depend_on_the_batch(model: Any) -> None:
    """The same seeds draw the same tokens in one batch and one by one; other seeds draw others."""
    sampling = Sampling(max_new_tokens=12, temperature=1.0, top_k=50, top_p=0.9, logprobs=True)
    together, alone = rolled(model, sampling, 100_000, {399}), rolled(model, sampling, 1, {399})
    assert [row.new for row in together] == [row.new for row in alone]
    for one, other in zip(together, alone, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-3)
        assert len(one.logprobs) == len(one.new) and max(one.logprobs) <= 0
    assert together[0].new != rolled(model, Sampling(max_new_tokens=12, temperature=0.0), 100_000, {399})[0].new


def test_an_answer_ends_where_the_context_ends(model: Any) -> None:
    """Prompt and answer together never pass the context."""
    rows = rolled(model, Sampling(max_new_tokens=30, temperature=0.0), 400, {399}, context=45)
    assert all(len(row.ids) + len(row.new) <= 45 for row in rows)
    assert any(len(row.ids) + len(row.new) == 45 and row.finish_reason == "length" for row in rows)


def test_sliding_windows_are_answered_batch_after_batch(tmp_path: Path) -> None:
    """A model whose cache cannot be shifted gets the same answers as from generate."""
    import torch
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    made = MistralForCausalLM(
        MistralConfig(
            vocab_size=400, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, sliding_window=16, max_position_embeddings=4096,
        )
    ).eval()  # fmt: skip
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(3)
    ends = set(range(100, 130))
    rows = rolled(made, Sampling(max_new_tokens=20, temperature=0.0), 400, ends)
    assert [row.new for row in rows] == generated(made, ends, 20)


@pytest.mark.parametrize("budget", [1, 250, 600, 100_000])
def test_what_prompts_have_in_common_is_read_once(model: Any, budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long common start, a prompt asked twice, one that is the start itself: the tokens are those of generate."""
    start = [(7 * place) % 290 + 3 for place in range(40)]
    asked = [start + ids for ids in prompts(9)] + [start + prompts(1)[0], list(start), list(start)]
    monkeypatch.setattr("tests.backends.test_rolling.prompts", lambda count=12: asked)
    read = list[int]()
    plain = model.forward

    @functools.wraps(plain)
    def counting(**keys: Any) -> Any:
        read.append(keys["input_ids"].numel())
        return plain(**keys)

    monkeypatch.setattr(model, "forward", counting)
    ends = set(range(100, 130))
    rows = rolled(model, Sampling(max_new_tokens=20, temperature=0.0), budget, ends)
    first, tokens = read[0], sum(read)
    assert [row.new for row in rows] == generated(model, ends, 20)
    if budget == 100_000:
        assert first == len(start) - 1 and tokens < sum(map(len, asked))
