"""Chat templates that cannot be trained on as they would be used: each refused in one sentence."""

import pytest

from runner.core.errors import ModelError
from runner.core.specs import Template
from runner.core.types import Example, Message
from runner.data import rules
from runner.data.dialect import dialect
from runner.data.dropped import Dropped
from runner.data.encode import Encoder
from runner.data.render import Refused, prompt_text
from tests.tiny import CHATML, THINKER, tiny_tokenizer

HEADS = "{%- for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
REFUSED = {
    "no template": ("", "has no chat template"),
    "no generation prompt": (HEADS, "has no generation prompt"),
    "no end of turn": (CHATML.replace("<|im_end|>", ""), "would not learn to stop"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_template_that_cannot_be_trained_on_is_refused(case: str) -> None:
    """With what is wrong and a way out."""
    text, sentence = REFUSED[case]
    tokenizer = tiny_tokenizer(text or "chatml")
    tokenizer.chat_template = text or None
    with pytest.raises(ModelError, match=sentence) as told:
        Encoder(tokenizer, Template(), rules.load(["default"])).encode(
            Example((Message("user", "a"), Message("assistant", "b")))
        )
    assert str(told.value).endswith(".")


def test_a_template_may_start_answers_right_after_the_question() -> None:
    """`[INST] question [/INST] answer</s>` needs no generation prompt."""
    said = "'[' + m.content + ']' if m.role == 'user' else m.content + '<|im_end|>'"
    text = "{%- for m in messages %}{{ " + said + " }}{% endfor %}"
    made = Encoder(tiny_tokenizer(text), Template(), rules.load(["default"])).encode(
        Example((Message("user", "a"), Message("assistant", "b")))
    )
    assert isinstance(made, list)
    assert [label != -100 for label in made[0].labels] == [False, False, False, True, True]


def test_an_end_of_turn_token_that_is_not_the_eos_token_is_found() -> None:
    """As Llama 3 has two."""
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = "<|endoftext|>"
    assert dialect(tokenizer).stops.search("x<|im_end|>") is not None


def test_what_a_template_raises_is_the_reason() -> None:
    """A row is dropped with the template's own words; a prompt ends with them in one sentence."""
    text = "{%- if messages[0].role == 'system' %}{{ raise_exception('no system prompts') }}{% endif %}" + CHATML
    tokenizer = tiny_tokenizer(text)
    talk = (Message("system", "s"), Message("user", "a"), Message("assistant", "b"))
    made = Encoder(tokenizer, Template(), rules.load(["default"])).encode(Example(talk, "f", 1))
    assert made == Dropped("f", 1, "the chat template refuses it", "no system prompts")
    with pytest.raises(Refused, match="the chat template refuses the conversation: no system prompts"):
        prompt_text(tokenizer, talk[:2], Template())


def test_prompts() -> None:
    """Thinking on and off, a prefix, a system prompt where the row has none, tools."""
    tokenizer, asked = tiny_tokenizer("thinker"), [Message("user", "q")]
    head = "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"
    assert prompt_text(tokenizer, asked, Template()) == head
    assert prompt_text(tokenizer, asked, Template(thinking="on")) == head
    assert prompt_text(tokenizer, asked, Template(thinking="off")) == head + "<think>\n\n</think>\n\n"
    assert prompt_text(tokenizer, asked, Template(response_prefix="So ")) == head + "So "
    assert prompt_text(tokenizer, asked, Template(system="Be.")) == f"<|im_start|>system\nBe.<|im_end|>\n{head}"
    own = [Message("system", "Mine."), *asked]
    assert prompt_text(tokenizer, own, Template(system="Be.")).startswith("<|im_start|>system\nMine.<|im_end|>")
    assert '{"name": "look"}' in prompt_text(tokenizer, asked, Template(), [{"name": "look"}])


def test_a_template_that_always_opens_a_thought_does_not_take_thinking_off() -> None:
    """It would go unnoticed."""
    opened = THINKER.replace(
        "'<|im_start|>assistant\\n' }}\n  {%- if enable",
        "'<|im_start|>assistant\\n<think>\\n' }}\n  {%- if false and enable",
    )
    tokenizer = tiny_tokenizer(opened)
    assert prompt_text(tokenizer, [Message("user", "q")], Template()).endswith("<think>\n")
    with pytest.raises(ModelError, match=r"opens a thought even with template\.thinking=off"):
        prompt_text(tokenizer, [Message("user", "q")], Template(thinking="off"))
