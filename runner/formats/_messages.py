"""Reads one message of a conversation, in the words of OpenAI, ShareGPT or ModelScope."""

import json
from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

from runner.core.types import Message
from runner.formats._row import BadRow, parsed, short

ROLES = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user",
    "assistant": "assistant", "gpt": "assistant", "bot": "assistant", "model": "assistant",
    "tool": "tool", "function": "tool", "ipython": "tool",
    "tool_response": "tool", "function_response": "tool", "observation": "tool", "observations": "tool",
    "tool_call": "tool_call", "function_call": "tool_call",
}  # fmt: skip
REASONING = ("reasoning_content", "reasoning", "thinking")


def conversation(held: Any, name: str = "messages") -> tuple[Message, ...]:
    """The messages of a list, or of JSON text of one; runs of tool calls become one assistant turn.

    Raises:
        BadRow: it is no list of messages, or one of them cannot be read.
    """
    listed = parsed(held, name)
    if (
        not isinstance(listed, Sequence)
        or isinstance(listed, str)
        or not all(isinstance(each, Mapping) for each in listed)
    ):
        raise BadRow(f"{name} is no list of messages", short(held))
    if not listed:
        raise BadRow(f"{name} is empty")
    made: list[Message] = []
    calls: list[Mapping[str, Any]] = []
    for index, entry in enumerate(listed):
        role, message = _message(entry, f"{name}[{index}]")
        if role == "tool_call":
            calls.extend(message.tool_calls)
            if made and made[-1].tool_calls and _is_call(listed[index - 1]):
                before = made.pop()
                if (before.loss, before.loss_scale) != (message.loss, message.loss_scale):
                    raise BadRow("calls of one turn say different things of their training", f"{name}[{index}]")
            message = Message("assistant", "", tuple(calls), loss=message.loss, loss_scale=message.loss_scale)
        else:
            calls = []
        made.append(message)
    return tuple(made)


def _is_call(entry: Mapping[str, Any]) -> bool:
    return ROLES.get(str(_either(entry, "role", "from")).lower()) == "tool_call"


def _either(entry: Mapping[str, Any], key: str, other: str) -> Any:
    """What stands under one of two names; tables of both kinds of messages have the other one empty."""
    return entry[key] if entry.get(key) is not None else entry.get(other)


def _message(entry: Mapping[str, Any], name: str) -> tuple[str, Message]:
    said = _either(entry, "role", "from")
    role = ROLES.get(str(said).lower()) if said is not None else None
    if role is None:
        problem = "has no role" if said is None else f"has the role {said!r}"
        raise BadRow(f"a message {problem}", f"{name}; roles: system, user, assistant, tool")
    content = _content(_either(entry, "content", "value"), name)
    loss, scale = _loss(entry, name)
    if role == "tool_call":
        return role, Message("assistant", "", _calls(parsed(content, "a tool call"), name), loss=loss, loss_scale=scale)
    held = entry.get("tool_calls") or entry.get("function_call")  # the second as OpenAI wrote it once
    calls = _calls(parsed(held, "a tool call"), name) if held else ()
    reasoning = next((entry[key] for key in REASONING if entry.get(key) is not None), None)
    if reasoning is not None and not isinstance(reasoning, str):
        raise BadRow("a message's reasoning is no text", name)
    if role in ("user", "assistant") and not content and not calls and not reasoning:
        raise BadRow("a message is empty", name)
    named, call = (
        str(entry[key]) if role == "tool" and entry.get(key) is not None else None for key in ("name", "tool_call_id")
    )
    return role, Message(role, content, calls, named, reasoning if role == "assistant" else None, loss, scale, call)


def _content(held: Any, name: str) -> str:
    """Text, or the text parts of a list; null is no text."""
    if held is None:
        return ""
    if isinstance(held, str):
        return held
    if isinstance(held, Mapping):
        return json.dumps(held, ensure_ascii=False)
    if isinstance(held, Sequence) and all(isinstance(part, Mapping) for part in held):
        if held and not any("type" in part or "text" in part for part in held):  # data, such as what a tool returned
            return json.dumps(held, ensure_ascii=False)
        kinds = {str(part.get("type", "text")) for part in held} - {"text"}
        if kinds:
            raise BadRow("a message holds more than text", f"{name}: {', '.join(sorted(kinds))}")
        return "".join(_part(part, name) for part in held)
    raise BadRow("a message's content is no text", f"{name}: {short(held)}")


def _part(part: Mapping[str, Any], name: str) -> str:
    if "text" not in part or not isinstance(part["text"], str | None):
        raise BadRow("a part of a message has no text", f"{name}: {short(part)}")
    return part["text"] or ""


def talk(held: Any) -> Any:
    """A list of messages that is written as JSON text, as in a table, as the list; all else as it is."""
    if not isinstance(held, str) or not held.lstrip().startswith("["):
        return held
    try:
        made = json.loads(held)
    except ValueError:
        return held
    spoken = isinstance(made, list) and bool(made) and all(isinstance(each, Mapping) for each in made)
    return made if spoken and all("role" in each or "from" in each for each in made) else held


def _calls(held: Any, name: str) -> tuple[Mapping[str, Any], ...]:
    """Calls in OpenAI's form: {type, function: {name, arguments}}."""
    listed = held if isinstance(held, list) else [held]
    made = []
    for call in (parsed(each, "a tool call") for each in listed):
        function = call.get("function", call) if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise BadRow("a tool call has no name", f"{name}: {short(call)}")
        inner = {"name": function["name"], "arguments": function.get("arguments", function.get("parameters", {}))}
        made.append({"type": "function", "function": inner} | ({"id": call["id"]} if call.get("id") else {}))
    return tuple(made)


def _loss(entry: Mapping[str, Any], name: str) -> tuple[bool | None, float | None]:
    """What a message says of its own training; OpenAI's `weight: 0` and Axolotl's `train: false` are `loss: false`."""
    weight, scale = entry.get("weight"), entry.get("loss_scale")
    if weight is not None and weight not in (0, 1):
        raise BadRow("a message's weight is neither 0 nor 1 (loss_scale takes any)", f"{name}: {short(weight)}")
    said = [(key, entry[key]) for key in ("loss", "train", "training") if entry.get(key) is not None]
    for key, value in said:
        if not isinstance(value, bool):
            raise BadRow(f"a message's {key} is neither true nor false", f"{name}: {short(value)}")
    loss = said[0][1] if said else False if weight == 0 else None
    if scale is not None and (isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 <= scale < inf):
        raise BadRow("a message's loss_scale is no number from 0 on", f"{name}: {short(scale)}")
    return loss, None if scale is None else float(scale)
