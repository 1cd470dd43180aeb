"""Makes prompts, and a Completion of what an engine returned, the same way for all engines.

The tail of a prompt that already belongs to the answer (a think block that the template opened, the response_prefix)
moves from the prompt to the completion: text and token counts speak of the same words.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.core import thoughts
from runner.core.specs import Template
from runner.core.types import Completion, Message
from runner.data.control import Guarded

_THINK = re.compile(r"<think>\s*(?:</think>\s*)?\Z")


@dataclass(frozen=True)
class Prompt:
    """A prompt with its ids; `head` of them come before the answer, whose text so far is `prefix`.

    text: what the ids spell; where a server makes the ids, the conversation as JSON, and no ids.
    """

    ids: tuple[int, ...]
    head: int
    prefix: str
    text: str = ""


def prompt(
    tokenizer: Any, messages: Sequence[Message], template: Template, tools: Sequence[Mapping[str, Any]] = ()
) -> Prompt:
    """The prompt that every engine answers.

    Raises:
        DataError: the chat template does not take the conversation. ModelError: there is no chat template.
    """
    from runner.data import prompt as prompts

    text = prompts.prompt(tokenizer, messages, template, tools)
    return read(text, template.response_prefix, lambda part: prompts.ids(tokenizer, part))


def split_prefix(prompt: str, response_prefix: str) -> tuple[str, str]:
    """The prompt without, and the text with, what already belongs to the answer."""
    head = prompt.removesuffix(response_prefix) if response_prefix else prompt
    block = _THINK.search(head)
    head = head[: block.start()] if block else head
    return head, prompt[len(head) :]


def read(prompt: Guarded, response_prefix: str, encode: Callable[[Guarded], Sequence[int]]) -> Prompt:
    """Tokenize a prompt once, as it is, and find where the answer starts in its ids."""
    ids = tuple(encode(prompt))
    head, prefix = split_prefix(prompt.text, response_prefix)
    if not prefix:
        return Prompt(ids, len(ids), "", prompt.text)
    alone = tuple(encode(Guarded(head, tuple(place for place in prompt.places if place[1] <= len(head)))))
    same = next((n for n, (a, b) in enumerate(zip(ids, alone, strict=False)) if a != b), min(len(ids), len(alone)))
    return Prompt(ids, same, prefix, prompt.text)


def spelled(tokenizer: Any, ids: Sequence[int], ends: Collection[int]) -> str:
    """The words of generated ids, without the mark that ended them (one of `ends`)."""
    kept = ids[:-1] if ids and ids[-1] in ends else ids
    return str(tokenizer.decode(list(kept), skip_special_tokens=True, clean_up_tokenization_spaces=False))


def completion(
    prompt: Prompt,
    text: str,
    ids: Sequence[int],
    finish_reason: str,
    sample: int = 0,
    logprobs: Sequence[float] | None = None,
) -> Completion:
    """An answer.

    Args:
        text: what was generated, after the prefix. ids: its tokens, the end mark included.
        logprobs: one a generated token.
    """
    whole = prompt.prefix + text
    begun = prompt.ids[prompt.head :]
    return Completion(
        text=whole,
        reasoning=thoughts.split(whole)[0],
        finish_reason=finish_reason,
        prompt_tokens=prompt.head,
        completion_tokens=len(begun) + len(ids),
        sample=sample,
        token_ids=(*begun, *ids),
        mask=(0,) * len(begun) + (1,) * len(ids),
        logprobs=None if logprobs is None else (0.0,) * len(begun) + tuple(logprobs),
    )


def counted(
    prompt: Prompt, text: str, tokens: int, finish_reason: str, sample: int, logprobs: Sequence[float] | None
) -> Completion:
    """An answer of which only the number of tokens is known, not which they are."""
    whole = prompt.prefix + text
    begun = len(prompt.ids) - prompt.head if prompt.ids else 0
    held = None if logprobs is None else (0.0,) * begun + tuple(logprobs)
    thought = thoughts.split(whole)[0]
    return Completion(whole, thought, finish_reason, prompt.head, begun + tokens, sample, logprobs=held)


def failure(prompt: Prompt, error: str, sample: int = 0) -> Completion:
    """The place of an answer that could not be given."""
    return Completion(prompt.prefix, None, "error", prompt.head, 0, sample, error=error)


def too_long(prompt: Prompt, context: int) -> str | None:
    """Why a prompt cannot be answered, if it leaves no room for an answer."""
    if len(prompt.ids) < context:
        return None
    return f"the prompt has {len(prompt.ids)} tokens and leaves no room for an answer: the model takes {context}"


def cut_at_stop(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """The text before the first stop string, and whether there was one."""
    places = [place for word in stop if (place := text.find(word)) >= 0]
    return (text[: min(places)], True) if places else (text, False)


def ready(text: str, stop: Sequence[str]) -> int:
    """How much of a growing text can be shown: no half character, no beginning of a stop string."""
    end = len(text)
    while end and text[end - 1] == "\ufffd":
        end -= 1
    for word in stop:
        begun = next((size for size in range(min(len(word), end), 0, -1) if text[:end].endswith(word[:size])), 0)
        end -= begun
    return end
