"""What an OpenAI-compatible server is asked and what it says: requests and replies as plain data.

With a tokenizer the prompt goes as token ids to `/completions`, so that it is the same as with every other backend;
without one the messages go to `/chat/completions`, where the server's own template renders them.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt

from runner.backends import _completion
from runner.core import thoughts
from runner.core.schema import component
from runner.core.specs import Count, Sampling, Template
from runner.core.types import Completion, Message
from runner.data.chat import chat
from runner.data.render import THINKING, with_system

BYTES = 3  # of a token, where the server has not counted them: most have more
SAID = 200  # characters of a server's refusal
CUT = ("length", "max_tokens", "model_length")  # servers' words for an answer that reached its limit
BROKEN = ("error", "abort", "cancelled")  # and for one that they gave up
ODD = (AttributeError, LookupError, RecursionError, TypeError, ValueError)  # from a reply of another shape
READS_ALL = "reasoning_content tool_calls arguments is string"  # a server takes thoughts and calls under their own keys


@component
class Endpoint:
    """The keys of `backend.engine` for an endpoint.

    base_url: up to and with /v1. key_env: the environment variable that holds the key. tokenizer: the model whose
    tokenizer renders prompts here. concurrency: requests at a time. retries: after each the wait doubles. timeout:
    seconds of one request. extra: keys that are passed on in every request as they are.
    """

    base_url: str
    key_env: str = "OPENAI_API_KEY"
    api: Literal["auto", "completions", "chat"] = "auto"
    tokenizer: str | None = None
    concurrency: Count = 32
    retries: Annotated[int, Ge(0)] = 5
    timeout: Annotated[float, Gt(0)] = 600.0
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def sends_ids(self) -> bool:
        """Whether prompts go as token ids."""
        return self.api == "completions" or (self.api == "auto" and self.tokenizer is not None)

    @property
    def key(self) -> str:
        """As it is sent, or nothing; a file that it was read from ends with a line's end."""
        return os.environ.get(self.key_env, "").strip()

    def without_key(self, said: str) -> str:
        """What a server says, which may quote the key that it was sent: it goes into files. Cut it afterwards."""
        return said.replace(self.key, "(key)") if self.key else said


def messages_text(messages: Sequence[Message], template: Template, tools: Sequence[Mapping[str, Any]]) -> str:
    """A conversation as the text that stands for a prompt while it waits."""
    held = {
        "messages": chat(with_system(messages, template), READS_ALL),
        "tools": list(tools),
        "thinking": THINKING[template.thinking],
    }
    return json.dumps(held, ensure_ascii=False)


def sampling_keys(sampling: Sampling, seed: int | None, extra: Mapping[str, Any]) -> dict[str, Any]:
    """What is said about sampling; what is open stays open: the server has its own defaults."""
    plain = {
        "max_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "stop": sampling.stop or None,
        "seed": seed,
    }
    more: dict[str, Any] = {
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "repetition_penalty": sampling.repetition_penalty,
    }
    if sampling.guided_json is not None:  # a form that most servers know
        schema = {"name": "answer", "schema": sampling.guided_json}
        more["response_format"] = {"type": "json_schema", "json_schema": schema}
    if sampling.guided_regex is not None:  # vLLM's own
        more["structured_outputs"] = {"regex": sampling.guided_regex}
    said = {name: value for name, value in plain.items() if value is not None}
    return {**said, "extra_body": {**{name: value for name, value in more.items() if value is not None}, **extra}}


def chat_keys(prompt: str, prefix: str) -> dict[str, Any]:
    """The messages, tools and mode of a conversation; a prefix is an answer that the server goes on with."""
    held = json.loads(prompt)
    body: dict[str, Any] = {}
    if held["thinking"] is not None:
        body["chat_template_kwargs"] = {"enable_thinking": held["thinking"]}
    if prefix:
        held["messages"].append({"role": "assistant", "content": prefix})
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    tools = [tool if "function" in tool else {"type": "function", "function": tool} for tool in held["tools"]]
    return {"messages": held["messages"], **({"tools": tools} if tools else {}), "extra_body": body}


def size(prompt: str) -> int:
    """Bytes of the words of a conversation; templates leave out the thoughts of earlier answers."""
    words = 0
    for message in json.loads(prompt)["messages"]:
        said = str(message["content"])
        said = thoughts.answer(said) if message["role"] == "assistant" else said
        words += len(said.encode("utf-8", "replace"))
    return words


def choice_of(reply: Any, chat: bool) -> Any:
    """The answer in a reply, which may be anything that a server, a proxy or a login page says with status 200.

    Raises:
        ValueError: there is none.
    """
    choices = getattr(reply, "choices", None)
    if isinstance(choices, list) and choices and getattr(choices[0], "message" if chat else "text", None) is not None:
        return choices[0]
    raise ValueError("no choice")


def shown(reply: Any) -> str:
    """A reply that is no answer, in words for the row."""
    error = getattr(reply, "error", None)
    held = reply.to_dict(warnings=False) if hasattr(reply, "to_dict") else reply
    return str(error or held or "empty")


def said(message: Any, finish_reason: str | None = None) -> str:
    """The whole text of a chat reply: thoughts that the server set apart, the answer, calls of tools.

    Thoughts that were cut off stay open, as they are where nobody sets them apart.
    """
    thoughts = _words(getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None))
    calls = [
        {"name": call.function.name, "arguments": _parsed(call.function.arguments)}
        for call in getattr(message, "tool_calls", None) or []
    ]
    content = _words(message.content) or _words(getattr(message, "refusal", None))
    end = "" if finish_reason in CUT and not content and not calls else "\n</think>\n\n"
    parts = [f"<think>\n{thoughts}{end}"] if thoughts else []
    parts.append(content)
    parts += [f"\n<tool_call>\n{json.dumps(call, ensure_ascii=False)}\n</tool_call>" for call in calls]
    return "".join(parts)


def _words(content: Any) -> str:
    """Some servers give a text in pieces.

    Raises:
        TypeError: neither a text nor pieces of one.
    """
    if isinstance(content, list):
        return "".join(_words(part.get("text") if isinstance(part, Mapping) else part) for part in content)
    if content is not None and not isinstance(content, str):
        raise TypeError("no text")
    return content or ""


def whole(text: str) -> str:
    """The text without halves of characters: JSON can spell them, and no file can hold them."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _parsed(arguments: Any) -> Any:
    """The arguments of a call: JSON, nothing where it has none, or whatever else a server gives."""
    if not isinstance(arguments, str):
        return {} if arguments is None else arguments
    try:
        return json.loads(arguments) if arguments else {}
    except ValueError:
        return arguments


def completion(
    prompt: _completion.Prompt, text: str, finish_reason: str | None, usage: Any, sample: int, logprobs: Any
) -> Completion:
    """An answer, its tokens counted by the server; where prompts are ids the prefix counts as answer."""
    if finish_reason == "content_filter":
        return _completion.failure(prompt, "the server's filter held the answer back", sample)
    said = str(finish_reason).lower()
    if said in BROKEN:
        return _completion.failure(prompt, f"the server gave the answer up: finish_reason {said}", sample)
    text, reason = whole(text), "length" if said in CUT else "stop"
    if not prompt.ids:
        text = text if prompt.prefix else opened(text)
        prompt = _completion.Prompt((), _count(usage, "prompt_tokens"), prompt.prefix)
    return _completion.counted(prompt, text, _count(usage, "completion_tokens"), reason, sample, logprobs)


def _count(usage: Any, name: str) -> int:
    """Tokens as the server counts them, 0 where it does not."""
    held = getattr(usage, name, None)
    return held if isinstance(held, int) and held > 0 else 0


def opened(text: str) -> str:
    """The text of a chat reply, begun as other backends begin it where the server's template opened the think block.

    Such a block stands in the prompt, and a server that does not set thoughts apart says only where they end.
    """
    before, closed, _ = text.partition(thoughts.CLOSE)
    if not closed or thoughts.OPEN in before:
        return text
    return thoughts.OPEN + ("" if text.startswith("\n") else "\n") + text


class Pieces:
    """Puts the pieces of a streamed chat together: thoughts that the server sends apart go into their block."""

    def __init__(self) -> None:
        self.thinking = False

    def add(self, delta: Any) -> str:
        """What an event adds to the text."""
        if delta is None:
            return ""
        thought = _words(getattr(delta, "reasoning_content", None) or getattr(delta, "reasoning", None))
        made = "<think>\n" if thought and not self.thinking else ""
        self.thinking = self.thinking or bool(thought)
        made += thought
        content = _words(delta.content) or _words(getattr(delta, "refusal", None))
        if content:
            made += "\n</think>\n\n" if self.thinking else ""
            self.thinking = False
        return made + content
