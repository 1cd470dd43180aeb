"""Conversations as text, by the model's own chat template: what training reads and what inference sends are made here.

Refuses a tokenizer without a chat template. What the template itself refuses comes out as `Refused`, with its words.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from runner.core.errors import DataError, ModelError
from runner.core.specs import Template
from runner.core.types import Message
from runner.data.chat import chat, inline, reasoning_key

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

THINKING = {"auto": None, "on": True, "off": False}


class Refused(DataError):
    """The chat template does not take this conversation; the text says why."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the chat template refuses the conversation: {reason}")


def template_text(tokenizer: "PreTrainedTokenizerBase", tools: Sequence[Any] = ()) -> str:
    """The text of the chat template.

    Raises:
        ModelError: the tokenizer has none.
    """
    held = tokenizer.chat_template
    if isinstance(held, dict):  # several by name: one for tools, one for the rest
        held = held.get("tool_use" if tools and "tool_use" in held else "default")
    if not held:
        raise ModelError(
            f"{tokenizer.name_or_path or 'tokenizer'}: has no chat template, so messages cannot become text. "
            "Choose the chat model of the family, or put a chat_template.jinja into the model's folder."
        )
    return str(held)


def without_modes(tokenizer: "PreTrainedTokenizerBase | None", thinking: str) -> bool:
    """Whether a mode was asked for that the chat template knows nothing of; False where a server has the template."""
    return thinking != "auto" and tokenizer is not None and "enable_thinking" not in template_text(tokenizer)


def render(
    tokenizer: "PreTrainedTokenizerBase",
    conversation: Sequence[Mapping[str, Any]],
    tools: Sequence[Any] = (),
    prompt: bool = False,
    thinking: bool | None = None,
) -> str:
    """The text of a conversation.

    Args:
        conversation: messages as `mappings` makes them.
        prompt: end with what starts the assistant's next turn.
        thinking: passed on as `enable_thinking`; None leaves it to the template.

    Raises:
        Refused: the template does not take this conversation.
    """
    from jinja2 import TemplateError

    source = template_text(tokenizer, tools)
    if not conversation:
        raise Refused("no message comes before the assistant's turn")
    more: dict[str, Any] = {} if thinking is None else {"enable_thinking": thinking}
    try:
        compiled(source)
        text = tokenizer.apply_chat_template(
            [dict(message) for message in conversation],
            tools=list(tools) or None,
            add_generation_prompt=prompt,
            tokenize=False,
            chat_template=source,
            **more,
        )
    except (TemplateError, TypeError, ValueError, KeyError, AttributeError) as error:
        name = "" if isinstance(error, TemplateError) else f"{type(error).__name__}: "
        raise Refused(f"{name}{error}") from None
    return str(text)


@lru_cache(maxsize=8)
def compiled(source: str) -> Any:
    """A chat template as transformers compiles it; its sandbox reads keys of mappings and methods of texts at once.

    The answers are the same: what is read here is what the sandbox allows in any case.

    Raises:
        TemplateError: it is no template.
    """
    from jinja2.runtime import LoopContext
    from transformers.utils.chat_template_utils import _compile_jinja_template

    made = _compile_jinja_template(source)
    careful = made.environment.getattr
    harmless = {name for name in dir(str) if not name.startswith(("_", "format"))}
    methods, loop = set(dir(dict)), {"index", "index0", "first", "last", "length", "previtem", "nextitem"}

    def quick(value: Any, name: str) -> Any:
        kind = type(value)
        if kind is dict:
            if name in value and name not in methods:
                return value[name]
        elif (kind is str and name in harmless) or (kind is LoopContext and name in loop):
            return getattr(value, name)
        return careful(value, name)

    made.environment.getattr = quick
    return made


def mappings(
    tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Message], tools: Sequence[Any] = ()
) -> list[dict[str, Any]]:
    """Messages as this tokenizer's chat template reads them, for `render`."""
    source = template_text(tokenizer, tools)
    return chat(messages, source, split=_knows_thoughts_only_as_reasoning(tokenizer, source))


@lru_cache(maxsize=8)
def _knows_thoughts_only_as_reasoning(tokenizer: "PreTrainedTokenizerBase", source: str) -> bool:
    """Whether a think block in the content comes out otherwise than the same thoughts in their own key."""
    key = reasoning_key(source)
    if key is None:
        return False
    asked = {"role": "user", "content": "qzquestionqz"}
    thought, said = "qzthoughtqz", "qzanswerqz"
    within = {"role": "assistant", "content": inline(thought, said)}
    try:
        apart = render(tokenizer, [asked, {"role": "assistant", "content": said, key: thought}])
        return thought in apart and apart != render(tokenizer, [asked, within])
    except Refused:
        return False


def prompt_text(
    tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Message], template: Template, tools: Sequence[Any] = ()
) -> str:
    """What inference sends for a conversation: all of it, the start of the assistant's turn, the response prefix.

    Raises:
        Refused: the chat template does not take the conversation. ModelError: there is no chat template.
    """
    conversation = mappings(tokenizer, with_system(messages, template), tools)
    text = render(tokenizer, conversation, tools, prompt=True, thinking=THINKING[template.thinking])
    if template.thinking == "off" and text.rstrip().endswith("<think>"):
        raise ModelError(
            f"{tokenizer.name_or_path}: its chat template opens a thought even with template.thinking=off. "
            r"Close it yourself: template.response_prefix='\n</think>\n\n'."
        )
    return text + template.response_prefix


def with_system(messages: Sequence[Message], template: Template) -> list[Message]:
    """The conversation with the template's system prompt in front, where it has none of its own."""
    if template.system is None or (messages and messages[0].role == "system"):
        return list(messages)
    return [Message("system", template.system), *messages]
