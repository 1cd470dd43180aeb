"""Random conversations for property tests, and how the tokenizer itself sees them."""

from typing import Any

from hypothesis import strategies as st

from runner.core.types import Message

# a first letter that no tokenizer joins with the newline before it; `<` would spell tags
WORDS = st.text(st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters="<>"), max_size=12)
SAID = st.tuples(st.sampled_from("abXY你é🎉"), WORDS, st.sampled_from(["", "\n", "\n\nand more", " "])).map("".join)


@st.composite
def answers(draw: st.DrawFn) -> Message:
    """An assistant turn with thoughts, with an empty block, or plain."""
    kind = draw(st.sampled_from(["plain", "thoughts", "empty", "reasoning"]))
    said = draw(SAID)
    if kind == "thoughts":
        return Message("assistant", f"<think>\n{draw(SAID).strip()}\n</think>\n\n{said}")
    if kind == "empty":
        return Message("assistant", f"<think>\n\n</think>\n\n{said}")
    return Message("assistant", said, reasoning=draw(SAID).strip() if kind == "reasoning" else None)


@st.composite
def conversations(draw: st.DrawFn, tools: bool = False) -> tuple[Message, ...]:
    """A system prompt or none, then one to four rounds, with calls of tools between if asked."""
    made = [Message("system", draw(SAID))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 4))):
        made.append(Message("user", draw(SAID)))
        if tools and draw(st.booleans()):
            call = {"type": "function", "function": {"name": "look", "arguments": {"at": draw(WORDS)}}}
            made += [Message("assistant", "", (call,), reasoning=draw(st.sampled_from([None, "why"])))]
            made += [Message("tool", draw(SAID))]
        made.append(draw(answers()))
    return tuple(made)


def mappings(messages: tuple[Message, ...], reads_reasoning: bool) -> list[dict[str, Any]]:
    """The messages as a user would hand them to the tokenizer."""
    made = []
    for message in messages:
        entry: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.reasoning is not None and reads_reasoning:
            entry["reasoning_content"] = message.reasoning
        elif message.reasoning is not None:
            entry["content"] = f"<think>\n{message.reasoning}\n</think>\n\n{message.content}"
        if message.tool_calls:
            entry["tool_calls"] = [dict(call) for call in message.tool_calls]
        made.append(entry)
    return made


def template_ids(tokenizer: Any, entries: list[dict[str, Any]], **more: Any) -> list[int]:
    """What the tokenizer's own `apply_chat_template` makes of a conversation."""
    return list(tokenizer.apply_chat_template(entries, tokenize=True, return_dict=False, **more))
