"""Conversations of one shape are rendered once: which roles, which thoughts, and between them words of any kind.

The rendering of a shape is made with `opaque` texts, so that it is known to hold for all words that fit what the chat
template asked about them; for the row at hand it is compared with what the template really renders. Rows of the same
shape are then filled in. Whatever is special (tools, names, a message's own loss, words that do not fit, a template
that cannot be watched) is rendered as ever.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from runner.core.types import Message
from runner.data.dialect import Dialect
from runner.data.opaque import FIRST, LETTERS, SLOTS, Asked, Uncertain, opaque, template
from runner.data.render import Refused, compiled, template_text
from runner.data.turns import Conversation, Layout, faithful, together

THOUGHT = re.compile(r"(\A\s+|\s*</?think>\s*|\s+\Z)")
LIMIT, TRIES = 4096, 20  # shapes remembered; rows of a shape that are looked at for one that it can be proved with
Key = tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Skeleton:
    """The layouts of a shape, with a private character for each stretch of words. fits: whether words are of its kind.

    texts: the texts of the layouts, cut at those characters; slots: which they are.
    """

    layouts: tuple[Layout, ...]
    fits: Callable[[str], bool]
    texts: tuple[tuple[str, ...], ...] = ()
    slots: tuple[tuple[int, ...], ...] = ()

    def filled(self, words: Sequence[str]) -> list[Layout]:
        """The layouts of a row."""
        return [
            _filled(layout, texts, slots, words)
            for layout, texts, slots in zip(self.layouts, self.texts, self.slots, strict=True)
        ]


class _Unproved:
    """A skeleton may be possible, and this row cannot prove it."""


class _Watched(str):
    """A rendered text that writes down where it differs from another one by a row's words alone."""

    asked: Asked

    def startswith(self, other: Any, *more: Any) -> bool:
        if str.startswith(self, other):
            return True
        at = next((n for n, (a, b) in enumerate(zip(self, other, strict=False)) if a != b), None)
        if at is not None:
            words = [FIRST <= ord(letter) < FIRST + SLOTS for letter in (self[at], other[at])]
            if all(words):
                raise Uncertain
            if any(words):
                self.asked.firsts.add(other[at] if words[0] else self[at])
        return False


class _Rendered(Conversation):
    """A conversation of opaque texts."""

    def __init__(self, dialect: Dialect, messages: Sequence[Mapping[str, Any]], made: Any, asked: Asked) -> None:
        super().__init__(dialect, messages)
        self.template, self.asked = made, asked
        self.opaque = [{**message, "content": opaque(message["content"], asked)} for message in messages]

    def rendered(self, count: int, prompt: bool, thinking: bool | None) -> str:
        more: dict[str, Any] = {} if thinking is None else {"enable_thinking": thinking}
        given = {**self.dialect.tokenizer.special_tokens_map, **more}
        text = self.template.render(
            messages=self.opaque[:count], tools=None, documents=None, add_generation_prompt=prompt, **given
        )
        made = str.__new__(_Watched, text)
        made.asked = self.asked
        return made


@dataclass
class Shapes:
    """The shapes of a data set, for one chat template. turns: the recipe's `template.turns`."""

    dialect: Dialect
    turns: str
    _seen: Counter[Key] = field(default_factory=Counter)
    _made: dict[Key, Skeleton | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """See whether the chat template can be watched."""
        from jinja2 import TemplateError

        source = template_text(self.dialect.tokenizer)
        try:
            self.template = template(compiled(source), source)
        except TemplateError:  # told when a row is rendered
            self.template = None

    def layouts(self, messages: Sequence[Message], said: Sequence[Mapping[str, Any]]) -> list[Layout] | None:
        """The layouts of a row, all of its assistant turns trained; None where it must be rendered itself.

        Args:
            said: the messages as the chat template reads them.
        """
        special = any(len(one) != 2 for one in said) or any(message.loss is not None for message in messages)
        if self.template is None or special:
            return None
        pieces = [_pieces(one["content"]) for one in said]
        key = tuple(
            (str(one["role"]), tuple(piece if at % 2 else "words" if piece else "" for at, piece in enumerate(held)))
            for one, held in zip(said, pieces, strict=True)
        )
        words = [piece for held in pieces for piece in held[::2] if piece]
        if key not in self._made:
            self._seen[key] += 1
            if self._seen[key] < 2 or len(self._made) >= LIMIT:
                return None
            made = self._skeleton(said, pieces, words)
            if isinstance(made, _Unproved) and self._seen[key] < TRIES:
                return None
            self._made[key] = made if isinstance(made, Skeleton) else None
        made = self._made[key]
        if made is None or self.dialect.specials.search("\n".join(words)) or not all(map(made.fits, words)):
            return None
        return made.filled(words)

    def _skeleton(
        self, said: Sequence[Mapping[str, Any]], pieces: Sequence[Sequence[str]], words: Sequence[str]
    ) -> "Skeleton | _Unproved | None":
        asked, marks = Asked(), iter(range(FIRST, FIRST + SLOTS))
        if len(words) > SLOTS:
            return None
        marked = []
        for one, held in zip(said, pieces, strict=True):
            parts = [chr(next(marks)) if piece and not at % 2 else piece for at, piece in enumerate(held)]
            marked.append({**one, "content": "".join(parts)})
        try:
            conversation = _Rendered(self.dialect, marked, self.template, asked)
            layouts = laid_out(conversation, self.turns)
        except Exception:  # noqa: BLE001 - a template may raise anything; the row is rendered itself, and then it is told
            return None
        if any(turn.composed for layout in layouts for turn in layout.turns):
            return None
        texts = [tuple(re.split(LETTERS, layout.text)) for layout in layouts]
        slots = [tuple(ord(mark) - FIRST for mark in re.findall(LETTERS, layout.text)) for layout in layouts]
        made = Skeleton(tuple(layouts), asked.fits(), tuple(texts), tuple(slots))
        if not all(map(made.fits, words)):
            return _Unproved()
        try:
            real = laid_out(Conversation(self.dialect, said), self.turns)
        except Refused:
            return None
        return made if made.filled(words) == [_plain(layout) for layout in real] else None


def laid_out(conversation: Conversation, turns: str) -> list[Layout]:
    """All assistant turns of a conversation, or the last one, laid out as `template.turns` says."""
    wanted = conversation.assistants[-1:] if turns == "last" else conversation.assistants
    found = [conversation.turn(index) for index in wanted]
    return [together(conversation, found)] if turns == "all" else faithful(found)


def _pieces(content: str) -> list[str]:
    """Words, and between them what marks thoughts, and blanks at the ends."""
    if "think>" in content or content.strip() != content:
        return THOUGHT.split(content)
    return [content]


def _filled(layout: Layout, texts: Sequence[str], slots: Sequence[int], words: Sequence[str]) -> Layout:
    made: list[str] = [texts[0]]
    shifts: list[tuple[int, int]] = []  # after so many characters of the skeleton, so many more
    at, more = len(texts[0]), 0
    for text, slot in zip(texts[1:], slots, strict=True):
        made += (words[slot], text)
        more += len(words[slot]) - 1
        shifts.append((at, more))
        at += 1 + len(text)
    whole = "".join(made)

    def moved(place: int) -> int:
        return place + next((shift for start, shift in reversed(shifts) if start < place), 0)

    turns = tuple(
        replace(turn, text=whole, start=moved(turn.start), stop=moved(turn.stop), end=moved(turn.end))
        for turn in layout.turns
    )
    return Layout(whole, layout.last, turns, layout.thinking)


def _plain(layout: Layout) -> Layout:
    """The same with the layout's own text in each turn."""
    return replace(layout, turns=tuple(replace(turn, text=layout.text) for turn in layout.turns))
