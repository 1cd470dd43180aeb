"""What inference sends for a conversation, as text and as ids: words that spell a control token stay words, as when
training. Refuses what the chat template refuses.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from runner.core.errors import DataError
from runner.core.specs import Template
from runner.core.types import Message
from runner.data.control import ControlTokens, Guarded
from runner.data.render import prompt_text, with_system
from runner.data.tokens import tokenize

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def prompt(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[Message],
    template: Template,
    tools: Sequence[Mapping[str, Any]] = (),
) -> Guarded:
    """The text, the response prefix at its end, and where in it words stand that are no control tokens.

    Raises:
        Refused: the chat template does not take the conversation. ModelError: there is no chat template.
    """
    control = _control(tokenizer)
    said = with_system(messages, template)
    words: list[Any] = [[one.content, one.reasoning, one.tool_calls, one.name] for one in said] + [list(tools)]
    if not control.spelled(words):
        return Guarded(prompt_text(tokenizer, said, template, tools))
    plane = control.plane(words)
    hidden = [
        replace(
            one,
            content=control.hide(one.content, plane),
            reasoning=control.hide(one.reasoning, plane),
            tool_calls=tuple(control.hide(one.tool_calls, plane)),
            name=control.hide(one.name, plane),
        )
        for one in said
    ]
    text = prompt_text(
        tokenizer, hidden, replace(template, response_prefix="", system=None), control.hide(list(tools), plane)
    )
    shown = control.show(text, plane)
    return Guarded(shown.text + template.response_prefix, shown.places)


def ids(tokenizer: "PreTrainedTokenizerBase", text: Guarded) -> list[int]:
    """Tokenized once, as it is.

    Raises:
        DataError: words that spell a control token, and a tokenizer that cannot keep them.
    """
    if not text.places:
        return list(tokenizer(text.text, add_special_tokens=False)["input_ids"])
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        first, last = text.places[0]
        raise DataError(f"it spells {text.text[first:last]}, a control token of this tokenizer, which is no fast one")
    return next(iter(tokenize(tokenizer, _control(tokenizer), None, [text]))).ids


@lru_cache(maxsize=8)
def _control(tokenizer: "PreTrainedTokenizerBase") -> ControlTokens:
    return ControlTokens(tokenizer)
