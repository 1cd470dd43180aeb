"""Who said what around the answers of a rendered text, for rules that train more than answers.

Each message's content is rendered once more between two private marks; where the text without the marks is the same
as before, the marks say exactly where each content lies. Where a template reacts to the marks, everything around the
answers counts as the template's own text.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from runner.data.render import Refused, render
from runner.data.turns import Conversation, Layout, within

OPEN, CLOSE = "\ue0f0", "\ue0f1"


@dataclass(frozen=True)
class Stretch:
    """Characters start..end of a rendered text. role: who said it, or template; turn: which message, or -1."""

    start: int
    end: int
    role: str
    turn: int


def stretches(conversation: Conversation, layout: Layout, previous: int | None) -> list[Stretch]:
    """All of a text outside its assistant turns and the blanks after them, in order.

    previous: the last message of the row's sequence before this one; what came up to there is not told again.

    Raises:
        Refused: an assistant turn cannot be told in the text.
    """
    assistants = within(conversation, layout)
    taken = [Stretch(turn.start, turn.after, "assistant", turn.index) for turn in assistants]
    at = next((turn.after for turn in assistants if turn.index == previous), 0)
    made: list[Stretch] = []
    for held in sorted([*taken, *_contents(conversation, layout)], key=lambda stretch: stretch.start):
        if held.start < at:
            continue
        if held.start > at:
            made.append(Stretch(at, held.start, "template", -1))
        made.append(held)
        at = held.end
    if at < len(layout.text):
        made.append(Stretch(at, len(layout.text), "template", -1))
    return [stretch for stretch in made if stretch.role != "assistant"]


def _contents(conversation: Conversation, layout: Layout) -> Iterator[Stretch]:
    """Where the contents of system, user and tool messages lie."""
    said = [_marked(message) for message in conversation.messages[: layout.last + 1]]
    try:
        marked = render(conversation.dialect.tokenizer, said, conversation.tools, thinking=layout.thinking)
    except Refused:
        return
    if marked.replace(OPEN, "").replace(CLOSE, "") != layout.text:
        return
    turns = [index for index, message in enumerate(said) if OPEN in message["content"]]
    at = 0
    if marked.count(OPEN) != len(turns) or marked.count(CLOSE) != len(turns):
        return
    for passed, index in enumerate(turns):
        start, end = marked.index(OPEN, at), marked.index(CLOSE, at)
        at = end + 1
        yield Stretch(start - 2 * passed, end - 2 * passed - 1, str(said[index]["role"]), index)


def _marked(message: Mapping[str, Any]) -> Mapping[str, Any]:
    if message["role"] == "assistant" or not message["content"]:
        return message
    return {**message, "content": f"{OPEN}{message['content']}{CLOSE}"}
