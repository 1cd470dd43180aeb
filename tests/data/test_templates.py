"""The habits of other families' chat templates, each as a small template of its own: turns still come out right."""

from dataclasses import replace
from typing import Any

import pytest

from runner.core.specs import Template
from runner.core.types import UNTRAINED, Encoded, Example, Message
from runner.data import rules
from runner.data.dropped import Dropped
from runner.data.encode import Encoder
from runner.data.render import prompt_text
from tests.tiny import CHATML, tiny_tokenizer

END = "<|im_end|>"
CALL: dict[str, Any] = {"type": "function", "function": {"name": "look", "arguments": {"at": 1}}}
TALK = (
    Message("user", "a"), Message("assistant", "<think>\nx\n</think>\n\none"),
    Message("user", "b"), Message("assistant", "two"),
)  # fmt: skip


def template(answer: str, prompt: str = "<|im_start|>assistant\\n") -> str:
    """ChatML with another way to write an assistant message `m`, and another generation prompt."""
    heads = "{%- for m in messages %}{%- if m.role == 'assistant' %}" + answer + "{%- else %}"
    other = "{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endif %}{% endfor %}"
    return heads + other + "{%- if add_generation_prompt %}{{ '" + prompt + "' }}{% endif %}"


STRIPS = template(
    "{{- '<|im_start|>assistant\\n' + m.content.split('</think>')[-1].lstrip() + '<|im_end|>\\n' }}",
    "<|im_start|>assistant\\n<think>\\n",
)
APART = template(
    "{{- '<|im_start|>assistant\\n' }}{%- if m.reasoning_content %}{{ '[' + m.reasoning_content + ']' }}{% endif %}"
    "{{- m.content + '<|im_end|>\\n' }}"
)
TWO_ENDS = CHATML.replace("<|im_end|>\\n' }}{% endfor", "<|im_end|><|endoftext|>\\n' }}{% endfor")
CALLS = template(
    "{{- '<|im_start|>assistant\\n' + m.content }}{%- for c in m.tool_calls or [] %}"
    "{{- c.function.name + ': ' + ARGUMENTS }}{% endfor %}{{- '<|im_end|>\\n' }}"
)


OPENS = template(
    "{{- '<|im_start|>assistant\\n' + ('<think>\\n\\n</think>\\n\\n' if loop.last else '') }}"
    "{{- m.content + '<|im_end|>\\n' }}",
    "<|im_start|>assistant\\n<think>\\n",
)
LAST_ENDS = template("{{- '<|im_start|>assistant\\n' + m.content + ('<|im_end|>\\n' if loop.last else '\\n') }}")
GOES_ON = template(
    "{{- '<|im_start|>assistant\\n' + m.content }}{%- for c in m.tool_calls or [] %}{{- c.function.name }}{% endfor %}"
    "{{- '<|im_start|>' if m.tool_calls else '<|im_end|>\\n' }}"
)
PLAIN = (Message("user", "a"), Message("assistant", "one"), Message("user", "b"), Message("assistant", "two"))


def trained(
    text: str, messages: tuple[Message, ...], notes: dict[str, int] | None = None, turns: str = "faithful"
) -> list[str]:
    """What is trained of each sequence."""
    tokenizer = tiny_tokenizer(text)
    encoder = Encoder(tokenizer, Template(turns=turns), rules.load(["default"]))  # type: ignore[arg-type]
    made = encoder.encode(Example(messages))
    if isinstance(made, Dropped):
        return [made.detail]
    if notes is not None:
        notes.update(encoder.notes)
    return [tokenizer.decode([t for t, label in _pairs(sequence) if label != UNTRAINED]) for sequence in made]


def _pairs(sequence: Encoded) -> list[tuple[int, int]]:
    return list(zip(sequence.input_ids, sequence.labels, strict=True))


def test_a_template_that_leaves_every_thought_out() -> None:
    """As those of DeepSeek-R1: the prompt opens a thought, so the turn is written after it, and that is told."""
    notes: dict[str, int] = {}
    assert trained(STRIPS, TALK, notes) == [f"x\n</think>\n\none{END}", f"</think>\n\ntwo{END}"]
    assert notes["trained turns without thoughts in the template's rendering, written after the prompt"] == 2
    tokenizer = tiny_tokenizer(STRIPS)
    (first, second) = Encoder(tokenizer, Template(), rules.load(["default"])).encode(Example(TALK))
    for sequence, asked in ((first, TALK[:1]), (second, TALK[:3])):
        ids = tokenizer(prompt_text(tokenizer, asked, Template()), add_special_tokens=False)["input_ids"]
        assert sequence.input_ids[: len(ids)] == ids
        assert [label == UNTRAINED for label in sequence.labels[: len(ids) + 1]] == [True] * len(ids) + [False]


def test_a_template_that_knows_thoughts_only_in_a_key_of_their_own() -> None:
    """A think block in the content becomes that, in training and in the prompts of inference."""
    assert trained(APART, TALK) == [f"[x]one{END}two{END}"]
    assert "[x]one" in prompt_text(tiny_tokenizer(APART), TALK[:3], Template())
    assert trained(CHATML, TALK) == [f"<think>\nx\n</think>\n\none{END}two{END}"]


def test_an_end_of_two_tokens_is_trained_whole() -> None:
    """The second one is what a model stops at."""
    assert trained(TWO_ENDS, TALK[2:]) == [f"two{END}<|endoftext|>"]


@pytest.mark.parametrize("written", ["c.function.arguments", "c.function.arguments | tojson"])
@pytest.mark.parametrize("arguments", [{"at": 1}, '{"at": 1}'])
def test_arguments_become_what_the_template_takes(written: str, arguments: Any) -> None:
    """Text is never quoted twice, a mapping never written as Python."""
    call = {**CALL, "function": {"name": "look", "arguments": arguments}}
    talk = (Message("user", "a"), Message("assistant", "", (call,)))
    assert trained(CALLS.replace("ARGUMENTS", written), talk) == [f'look: {{"at": 1}}{END}']


def test_arguments_stay_as_written_where_the_template_looks() -> None:
    """Blanks and all."""
    either = "(c.function.arguments if c.function.arguments is string else c.function.arguments | tojson)"
    call = {**CALL, "function": {"name": "look", "arguments": '{"at":1}'}}
    talk = (Message("user", "a"), Message("assistant", "", (call,)))
    assert trained(CALLS.replace("ARGUMENTS", either), talk) == [f'look: {{"at":1}}{END}']


def test_all_turns_where_only_the_last_opens_a_thought() -> None:
    """As those of Qwen3.5: an earlier turn starts after its header, not at the turn that still has the opening."""
    assert trained(OPENS, PLAIN, turns="all") == [f"one{END}</think>\n\ntwo{END}"]


def test_all_turns_where_an_earlier_one_ends_otherwise() -> None:
    """As those of gpt-oss: what others say up to the next end of a turn would be learned, so the row is refused."""
    assert trained(LAST_ENDS, PLAIN) == [f"one{END}", f"two{END}"]
    (why,) = trained(LAST_ENDS, PLAIN, turns="all")
    assert why == "message 1 cannot be told within the whole conversation; choose turns: faithful"


def test_all_turns_where_a_call_has_an_end_of_its_own() -> None:
    """As those of Gemma 4: what the tool returned is not learned."""
    talk = (PLAIN[0], Message("assistant", "", (CALL,)), Message("tool", "found"), Message("assistant", "two"))
    for turns in ("faithful", "all"):
        assert trained(GOES_ON, talk, turns=turns) == [f"look<|im_start|>two{END}"]


def test_a_second_call_of_one_function_is_missed() -> None:
    """As in those of gpt-oss, which write the first call of a turn alone."""
    once = CALLS.replace("in m.tool_calls or []", "in (m.tool_calls or [])[:1]").replace("ARGUMENTS", "'x'")
    assert trained(once, (PLAIN[0], Message("assistant", "", (CALL,)))) == [f"look: x{END}"]
    why = "it leaves out the tool calls of message 1"
    assert trained(once, (PLAIN[0], Message("assistant", "", (CALL, CALL)))) == [why]


def test_a_question_to_be_learned_that_cannot_be_told_is_missed() -> None:
    """Where the turn is written after the prompt here, nothing says where the question lies."""
    asked = replace(PLAIN[0], loss=True)
    assert trained(CHATML, (asked, PLAIN[1])) == [f"a{END}one{END}"]
    why = "message 0, which says loss: true, cannot be told in the text"
    assert trained(STRIPS, (asked, PLAIN[1])) == [why]
