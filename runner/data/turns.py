"""Assistant turns in the context that each would have at inference, and the fewest sequences that hold them all.

A turn is rendered as the end of its conversation; it starts where the inference prompt ends, in the mode that the row
shows: with thoughts as the thinking prompt would start it, without as the non-thinking prompt would. Where the template
renders earlier turns as they were, one sequence holds all turns; where it rewrites them (Qwen3 drops earlier thoughts)
a turn that was rewritten needs a sequence of its own. Refuses what a template would silently leave out.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from runner.core import thoughts
from runner.data.chat import REASONING_KEYS
from runner.data.dialect import Dialect
from runner.data.render import Refused, render

Modes = tuple[bool | None, ...]
OPENED = re.compile(r"<think>\s*$")
BLOCK = re.compile(r"<think>\s*(</think>\s*)?$")
BLANKS = re.compile(r"\s*")
UNTOLD = "message {} cannot be told within the whole conversation; choose turns: faithful"


@dataclass(frozen=True)
class Turn:
    """One assistant turn. text: the conversation up to and including it, as rendered; start, end: its characters,
    from where the inference prompt ends to the end of its end-of-turn token, which starts at `stop`. index: its place
    among the messages. thinking: the mode of that prompt. composed: the template leaves the thoughts of every turn out,
    so that they were written after the prompt here."""

    index: int
    text: str
    start: int
    stop: int
    end: int
    thinking: bool | None = None
    composed: bool = False

    @property
    def answer(self) -> str:
        """What is written at inference: all after the prompt, the end-of-turn token included."""
        return self.text[self.start : self.end]

    @property
    def after(self) -> int:
        """Where the blanks end that the template writes after the end-of-turn token."""
        found = BLANKS.match(self.text, self.end)
        return found.end() if found else self.end


@dataclass(frozen=True)
class Layout:
    """A rendered text and the turns in it that are trained. last: index of the last message in it."""

    text: str
    last: int
    turns: tuple[Turn, ...]
    thinking: bool | None


class Conversation:
    """The messages of a row, as mappings, and their renderings."""

    def __init__(self, dialect: Dialect, messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] = ()) -> None:
        self.dialect, self.messages, self.tools = dialect, messages, tools
        self.assistants = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
        self._rendered: dict[tuple[int, bool, bool | None], str] = {}

    def rendered(self, count: int, prompt: bool, thinking: bool | None) -> str:
        """The first `count` messages as text."""
        key = (count, prompt, thinking)
        if key not in self._rendered:
            text = render(self.dialect.tokenizer, self.messages[:count], self.tools, prompt, thinking)
            self._rendered[key] = text
        return self._rendered[key]

    def turn(self, index: int) -> Turn:
        """The assistant turn at `index` as the end of its conversation.

        Raises:
            Refused: the template does not render it so that it continues the inference prompt, or leaves words out.
        """
        found = self.as_rendered(index) or self._composed_turn(index)
        if found is None:
            raise Refused(f"message {index}, as it renders it, does not go on from the inference prompt")
        self._refuse_losses(index, found.answer)
        return found

    def modes(self, index: int) -> Modes:
        """Values of `enable_thinking` in the order in which they fit what the row shows."""
        if not self.dialect.thinks:
            return (None,)
        return (False, None, True) if self.thought(index) is None else (None, True, False)

    def thought(self, index: int) -> str | None:
        """The thoughts of a turn; "" for an empty block that the row holds, None for none."""
        message = self.messages[index]
        held = next((message[key] for key in REASONING_KEYS if message.get(key) is not None), None)
        return held.strip() if held is not None else thoughts.split(message["content"])[0]

    def as_rendered(self, index: int) -> Turn | None:
        """The turn as the template renders it, in the first mode whose prompt it continues."""
        opened: Turn | None = None
        for mode in self.modes(index):
            prompt, text = self.rendered(index, True, mode), self.rendered(index + 1, False, mode)
            end = self.dialect.end_of_turn(text, len(prompt)) if text.startswith(prompt) else None
            if end is None:
                continue
            turn = Turn(index, text, len(prompt), *end, mode)
            if self.thought(index) != "" or OPENED.search(prompt) is None:
                return turn
            opened = opened or turn  # an empty block: better a prompt that closes it
        return opened

    def _composed_turn(self, index: int) -> Turn | None:
        """The turn after a prompt that opens a thought, where the template renders answers without their thoughts.

        DeepSeek-R1's distilled models do: the prompt ends with `<think>`, and what is rendered holds no thought.
        """
        for mode in self.modes(index):
            prompt, text = self.rendered(index, True, mode), self.rendered(index + 1, False, mode)
            opening = OPENED.search(prompt)
            if opening is None or not text.startswith(prompt[: opening.start()]):
                continue
            thought = self.thought(index)
            said = f"{prompt}{thought + chr(10) if thought else ''}</think>\n\n{text[opening.start() :].lstrip()}"
            end = self.dialect.end_of_turn(said, len(prompt))
            if end is not None:
                return Turn(index, said, len(prompt), *end, mode, composed=True)
        return None

    def _refuse_losses(self, index: int, answer: str) -> None:
        message = self.messages[index]
        thought, said = self.thought(index), thoughts.answer(message["content"]).strip()
        if thought and thought not in answer:
            raise Refused(f"it leaves out the thoughts of message {index}")
        if said not in answer:
            raise Refused(f"it leaves out words of message {index}")
        called = Counter(str((call.get("function") or call).get("name", "")) for call in message.get("tool_calls", ()))
        if any(answer.count(name) < times for name, times in called.items()):
            raise Refused(f"it leaves out the tool calls of message {index}")


def faithful(turns: Sequence[Turn]) -> list[Layout]:
    """The fewest sequences in which each turn stands in the context that it has at inference.

    Args:
        turns: in the order of the conversation.
    """
    made: list[Layout] = []
    left = list(turns)
    while left:
        text = left[-1].text
        held = [turn for turn in left if text.startswith(turn.text[: turn.end])]
        made.append(Layout(text, left[-1].index, tuple(held), left[-1].thinking))
        left = [turn for turn in left if turn not in held]
    return made[::-1]


def together(conversation: Conversation, turns: Sequence[Turn]) -> Layout:
    """The turns in one rendering of the whole conversation, earlier ones as the template rewrites them."""
    wanted, last = {turn.index for turn in turns}, turns[-1]
    layout = Layout(last.text, last.index, (last,), last.thinking)
    return replace(layout, turns=tuple(turn for turn in within(conversation, layout) if turn.index in wanted))


def within(conversation: Conversation, layout: Layout) -> list[Turn]:
    """Every assistant turn of a rendered text, trained or not, in order.

    Raises:
        Refused: a turn cannot be told in it.
    """
    known = {turn.index: turn for turn in layout.turns}
    held: list[Turn] = []
    for index in conversation.assistants[: conversation.assistants.index(layout.last) + 1]:
        start = known[index].start if index in known else _start_within(conversation, index, layout.text, held)
        end = _end_within(conversation, index, layout.text, start) if start is not None else None
        if start is None or end is None or end[1] > layout.turns[-1].end:
            raise Refused(UNTOLD.format(index))
        if held and held[-1].end > start:  # its own end is not there: the token found ends a later turn
            raise Refused(UNTOLD.format(held[-1].index))
        held.append(Turn(index, layout.text, start, *end, layout.thinking))
    return held


def _end_within(conversation: Conversation, index: int, text: str, start: int) -> tuple[int, int] | None:
    """Where a turn ends in a later rendering: as in its own one if that is unchanged, else at the next end of a turn,
    unless a control token before it is none of the turn's own: then somebody else speaks there."""
    own = conversation.as_rendered(index)
    if own is not None and text.startswith(own.text[: own.end]):
        return own.stop, own.end
    found = conversation.dialect.end_of_turn(text, start)
    if own is None or found is None:
        return found
    ours = set(conversation.dialect.control.pattern.findall(own.answer))
    return found if ours.issuperset(conversation.dialect.control.pattern.findall(text, start, found[0])) else None


def _start_within(conversation: Conversation, index: int, text: str, before: Sequence[Turn]) -> int | None:
    """Where a turn starts in a later rendering: after its prompt if that is unchanged, else after its header."""
    modes = conversation.modes(index)
    prompts = [conversation.rendered(index, True, mode) for mode in modes]
    starts = [len(prompt) for prompt in prompts if text.startswith(prompt)]
    if starts:
        return max(starts)
    before_it = [conversation.rendered(index, False, mode) for mode in modes]
    headers = [prompt.removeprefix(told) for prompt, told in zip(prompts, before_it, strict=True)]
    bare = BLOCK.sub("", headers[-1])  # an earlier turn may stand without the thought that the prompt opens
    place = text.find(bare, before[-1].end if before else 0) if bare.strip() else -1
    rest = text[place:]
    return place + max(len(header) for header in (bare, *headers) if rest.startswith(header)) if place >= 0 else None
