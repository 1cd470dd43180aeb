"""What belongs to the answer: thoughts, prefixes, stop strings, and counts that agree with the text."""

import pytest

from runner.backends import _completion
from runner.core import thoughts
from runner.data.control import Guarded
from tests.tiny import tiny_tokenizer

EMPTY = "<think>\n\n</think>\n\n"


def encode(text: Guarded) -> list[int]:
    """Ids of the tiny tokenizer."""
    return list(tiny_tokenizer()(text.text, add_special_tokens=False)["input_ids"])


HELLO = encode(Guarded("Hello"))


@pytest.mark.parametrize(
    ("tail", "response_prefix", "expected"),
    [
        ("", "", ""),
        (EMPTY, "", EMPTY),  # a template with thinking off
        (EMPTY, EMPTY, EMPTY),  # the same by response_prefix
        ("<think>\n", "", "<think>\n"),  # a template that opens the thought
        ("<think>\nFirst, ", "First, ", "<think>\nFirst, "),
        ("Sure: ", "Sure: ", "Sure: "),
    ],
)
def test_prefix_belongs_to_the_answer(tail: str, response_prefix: str, expected: str) -> None:
    """Text and token counts move together from the prompt to the completion."""
    head = "<|im_start|>user\nsay <think><|im_end|>\n<|im_start|>assistant\n"
    read = _completion.read(Guarded(head + tail), response_prefix, encode)
    assert read.prefix == expected and list(read.ids) == encode(Guarded(head + tail))
    made = _completion.completion(read, "Hello", HELLO, "stop", logprobs=[-1.0] * len(HELLO))
    assert made.text == expected + "Hello"
    assert made.prompt_tokens + made.completion_tokens == len(encode(Guarded(head + tail))) + len(HELLO)
    assert made.prompt_tokens == len(encode(Guarded(head)))
    assert len(made.token_ids) == len(made.mask) == len(made.logprobs or ()) == made.completion_tokens
    assert sum(made.mask) == len(HELLO)


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        ("Hello", None, "Hello"),
        (EMPTY + "Hello", "", "Hello"),
        ("<think>\nHm.\n</think>\n\nHello", "Hm.", "Hello"),
        ("<think>\nnever ends", "never ends", ""),
        ("Close it with </think>, please", None, "Close it with </think>, please"),
    ],
)
def test_thoughts(text: str, reasoning: str | None, answer: str) -> None:
    """A block at the start is thoughts, an unclosed one is all thoughts, a tag in the answer is text."""
    assert thoughts.split(text) == (reasoning, answer)
    read = _completion.read(Guarded("x"), "", encode)
    assert _completion.completion(read, text, [], "stop").reasoning == reasoning


def test_stop_strings() -> None:
    """The first one cuts; what may become one is held back while streaming, and half a character too."""
    assert _completion.cut_at_stop("a. b! c", ["!", "."]) == ("a", True)
    assert _completion.cut_at_stop("abc", ["!"]) == ("abc", False)
    assert _completion.ready("Hello ##", ["###"]) == len("Hello ")
    assert _completion.ready("Hello\ufffd", []) == len("Hello")
    assert _completion.ready("Hello", ["###"]) == len("Hello")
