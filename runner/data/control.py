"""Control tokens that a row's own words spell (`<|im_end|>` in a question about chat formats): they must stay words.

Before rendering each such spelling is replaced by one private character, which templates pass through; afterwards the
words are put back, and their places are remembered so that they are tokenized as text. `<think>` and `<tool_call>`
are what answers are made of, so they are never touched.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

EXEMPT = re.compile(r"</?(think|tool_call|tool_calls|tool_response)>")
PLANES = (0xF0000, 0x100000, 0xE000)  # private characters


@dataclass(frozen=True)
class Guarded:
    """Text in which some words are not to be read as control tokens. places: their (start, end) characters."""

    text: str
    places: tuple[tuple[int, int], ...] = ()


class ControlTokens:
    """The control tokens of a tokenizer: its special tokens."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        added = getattr(tokenizer, "added_tokens_decoder", {}).values()
        special = {str(token.content) for token in added if token.special} | set(tokenizer.all_special_tokens)
        self.specials = tuple(sorted(special, key=lambda word: (-len(word), word)))  # a longer one holds others
        self.words = tuple(word for word in self.specials if not EXEMPT.fullmatch(word))

    @cached_property
    def every(self) -> re.Pattern[str]:
        """Any special token, those that answers are made of included."""
        return re.compile("|".join(re.escape(word) for word in self.specials) or "(?!)")

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Any control token, the longest first."""
        return re.compile("|".join(re.escape(word) for word in self.words) or "(?!)")

    def spelled(self, value: Any) -> bool:
        """Whether a text, or any text inside a list or mapping, spells a control token."""
        if isinstance(value, str):
            return self.pattern.search(value) is not None
        return self.pattern.search("\n".join(_texts(value))) is not None

    def hide(self, value: Any, plane: int) -> Any:
        """The same value with each spelling as one private character."""
        if isinstance(value, str):
            return self.pattern.sub(lambda found: chr(plane + self.words.index(found.group())), value)
        if isinstance(value, Mapping):
            return {self.hide(key, plane): self.hide(item, plane) for key, item in value.items()}
        return [self.hide(item, plane) for item in value] if isinstance(value, list | tuple) else value

    def plane(self, value: Any) -> int:
        """The first code point of private characters that the value does not hold already."""
        text, size = json.dumps(value, ensure_ascii=False, default=str), len(self.words)
        return next(start for start in PLANES if not any(start <= ord(letter) < start + size for letter in text))

    def show(self, text: str, plane: int) -> Guarded:
        """Put the words back, with their places."""
        private = re.compile(f"[{chr(plane)}-{chr(plane + len(self.words) - 1)}]")
        made: list[str] = []
        places: list[tuple[int, int]] = []
        at = length = 0
        for found in private.finditer(text):
            word = self.words[ord(found.group()) - plane]
            made += [text[at : found.start()], word]
            length += found.start() - at
            places.append((length, length + len(word)))
            length, at = length + len(word), found.end()
        return Guarded("".join([*made, text[at:]]), tuple(places))


def _texts(value: Any) -> Iterator[str]:
    """Every text inside lists and mappings, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield str(key)
            yield from (item,) if type(item) is str else _texts(item)
    elif isinstance(value, Mapping):
        yield from _texts(dict(value))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
