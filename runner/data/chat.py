"""Messages as the mappings that chat templates read: content, reasoning, tool calls, each in the form they know.

Templates differ in what they read. Reasoning goes into a key of its own only where the template reads that key, and
into a `<think>` block of the content elsewhere, so that it is never lost. Arguments of tool calls stay as written where
the template takes them as text, and are parsed where it would quote them a second time.
"""

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from runner.core.types import Message

REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
ARGUMENTS_AS_TEXT = re.compile(r"arguments\s+is\s+string")


def chat(messages: Sequence[Message], template_text: str) -> list[dict[str, Any]]:
    """The conversation for `apply_chat_template`. template_text: the chat template itself, to see what it reads."""
    return [_mapping(message, template_text) for message in messages]


def _mapping(message: Message, template_text: str) -> dict[str, Any]:
    made: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.reasoning is not None:
        key = next((key for key in REASONING_KEYS if _reads(key, template_text)), None)
        if key is not None:
            made[key] = message.reasoning
        else:
            made["content"] = inline(message.reasoning, message.content)
    if message.tool_calls:
        made["tool_calls"] = [_call(call, template_text) for call in message.tool_calls]
    if message.name is not None:
        made["name"] = message.name
    return made


def inline(reasoning: str, content: str) -> str:
    """Reasoning and answer as one text, in the form that reasoning models write."""
    return f"<think>\n{reasoning.strip(chr(10))}\n</think>\n\n{content}"


def _reads(key: str, template_text: str) -> bool:
    return re.search(rf"[.'\"]{key}\b", template_text) is not None


def _call(call: Mapping[str, Any], template_text: str) -> dict[str, Any]:
    function = dict(call.get("function") or call)
    arguments = function.get("arguments")
    if isinstance(arguments, str) and not ARGUMENTS_AS_TEXT.search(template_text):
        with suppress(ValueError):  # not JSON: it stays the text that the row holds
            function["arguments"] = json.loads(arguments)
    return {**call, "function": function} if "function" in call else function
