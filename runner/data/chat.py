"""Messages as the mappings that chat templates read: content, reasoning, tool calls, each in the form they know.

Templates differ in what they read. Reasoning goes into a key of its own only where the template reads that key, and
into a `<think>` block of the content elsewhere, so that it is never lost. Arguments of tool calls stay as written where
the template looks which form they have, and otherwise become what it takes: a mapping, or text.
"""

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

from runner.core import thoughts
from runner.core.types import Message

REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
ARGUMENTS_IN_ANY_FORM = re.compile(r"arguments\W{0,3}\s+is\s+(string|mapping)")
ARGUMENTS_AS_TEXT = re.compile(r"(\+|~|\{\{-?)\s*[\w.\[\]'\"]*arguments[\]'\"]*\s*(\+|~|-?\}\})")  # written as they are


def chat(messages: Sequence[Message], template_text: str, split: bool = False) -> list[dict[str, Any]]:
    """The conversation for `apply_chat_template`.

    Args:
        template_text: the chat template itself, to see what it reads.
        split: whether a think block in the content becomes reasoning, for templates that know thoughts only as that.
    """
    return [_mapping(message, template_text, split) for message in messages]


@lru_cache(maxsize=8)
def reasoning_key(template_text: str) -> str | None:
    """The key of a message in which a template looks for thoughts, if it does."""
    return next((key for key in REASONING_KEYS if re.search(rf"[.'\"]{key}\b", template_text)), None)


def _mapping(message: Message, template_text: str, split: bool) -> dict[str, Any]:
    reasoning, content = message.reasoning, message.content
    if split and reasoning is None and message.role == "assistant" and thoughts.CLOSE in content:
        reasoning, content = thoughts.split(content)
    made: dict[str, Any] = {"role": message.role, "content": content}
    key = reasoning_key(template_text)
    if reasoning is not None and key is not None:
        made[key] = reasoning
    elif reasoning is not None:
        made["content"] = inline(reasoning, content)
    if message.tool_calls:
        made["tool_calls"] = [_call(call, template_text) for call in message.tool_calls]
    if message.name is not None:
        made["name"] = message.name
    if message.tool_call_id is not None:
        made["tool_call_id"] = message.tool_call_id
    return made


def inline(reasoning: str, content: str) -> str:
    """Reasoning and answer as one text, in the form that reasoning models write."""
    return f"<think>\n{reasoning.strip(chr(10))}\n</think>\n\n{content}"


def _call(call: Mapping[str, Any], template_text: str) -> dict[str, Any]:
    function = dict(call.get("function") or call)
    arguments = function.get("arguments")
    if not ARGUMENTS_IN_ANY_FORM.search(template_text):
        as_text = ARGUMENTS_AS_TEXT.search(template_text) is not None
        if isinstance(arguments, str) and not as_text:
            with suppress(ValueError):  # not JSON: it stays the text that the row holds
                function["arguments"] = json.loads(arguments)
        elif arguments is not None and not isinstance(arguments, str) and as_text:
            function["arguments"] = json.dumps(arguments, ensure_ascii=False)
    return {**call, "function": function} if "function" in call else function
