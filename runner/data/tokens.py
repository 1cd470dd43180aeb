"""Texts as token ids in which each character's token can be found: tokenized once, many at a time.

Words that must not become control tokens are tokenized with the splitting of special tokens on; everything between two
real control tokens is one piece either way, so the other ids are the same.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from runner.data.control import ControlTokens, Guarded
from runner.data.words import Words

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Tokens(Protocol):
    """The ids of a text, and the way from characters to them."""

    @property
    def ids(self) -> list[int]:
        """One entry a token."""

    def first_from(self, place: int) -> int:
        """Index of the first token that starts at or after a character."""

    def begins(self, place: int) -> bool:
        """Whether a token begins at a character, so that what comes before is tokenized the same without it."""


@dataclass(frozen=True)
class Whole:
    """Tokens of a text that was tokenized in one piece."""

    ids: list[int]
    encoding: Any
    length: int

    def first_from(self, place: int) -> int:
        """Asks the tokenizer's own table; steps over characters that no token holds."""
        for at in range(place, self.length):
            token = self.encoding.char_to_token(at)
            if token is not None:
                while token < len(self.ids) and self.encoding.token_to_chars(token)[0] < place:
                    token += 1
                return int(token)
        return len(self.ids)

    def begins(self, place: int) -> bool:
        """A character in no token counts as a border."""
        token = self.encoding.char_to_token(place)
        return token is None or bool(self.encoding.token_to_chars(token)[0] == place)


@dataclass(frozen=True)
class Pieced:
    """Tokens of a text that was tokenized piece by piece. starts: the first character of each token."""

    ids: list[int]
    starts: list[int]

    def first_from(self, place: int) -> int:
        """By bisection."""
        return bisect_left(self.starts, place)

    def begins(self, place: int) -> bool:
        """By bisection."""
        at = bisect_left(self.starts, place)
        return at < len(self.starts) and self.starts[at] == place


def tokenize(
    tokenizer: "PreTrainedTokenizerBase", control: ControlTokens, words: Words | None, texts: Sequence[Guarded]
) -> Iterator[Tokens]:
    """The tokens of each text, without special tokens added around."""
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = False
    known = [words.tokens(text.text) if words and not text.places else None for text in texts]
    rest = [text.text for text, found in zip(texts, known, strict=True) if found is None and not text.places]
    plain = iter(backend.encode_batch(rest, add_special_tokens=False) if rest else ())
    for text, found in zip(texts, known, strict=True):
        if found is not None:
            yield found
        elif text.places:
            yield _pieced(backend, control, text)
        else:
            encoding = next(plain)
            yield Whole(encoding.ids, encoding, len(text.text))


def _pieced(backend: Any, control: ControlTokens, guarded: Guarded) -> Pieced:
    made = Pieced([], [])
    for start, end in _pieces(control, guarded):
        words = any(start <= first and last <= end for first, last in guarded.places)
        backend.encode_special_tokens = words
        try:
            encoding = backend.encode(guarded.text[start:end], add_special_tokens=False)
        finally:
            backend.encode_special_tokens = False
        made.ids.extend(encoding.ids)
        made.starts.extend(start + first for first, _ in encoding.offsets)
    return made


def _pieces(control: ControlTokens, guarded: Guarded) -> Iterator[tuple[int, int]]:
    """The text cut before and after each real control token."""
    at = 0
    for found in control.every.finditer(guarded.text):
        if any(first < found.end() and found.start() < last for first, last in guarded.places):
            continue
        if found.start() > at:
            yield at, found.start()
        yield found.span()
        at = found.end()
    if at < len(guarded.text):
        yield at, len(guarded.text)
