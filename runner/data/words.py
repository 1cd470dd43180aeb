"""Ids of texts from a dictionary of words, for byte-level BPE tokenizers whose way of cutting text is known: the same
ids as the tokenizer's own, several times as fast.

Such a tokenizer cuts a text at its added tokens, cuts the rest into words by one regular expression, and turns each
word into ids alone. Here the expression runs in `regex`, and a word that was seen before is looked up. Leaves to the
tokenizer itself: tokenizers built in another way, and texts with letters about which versions of Unicode may differ.
"""

import json
import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Blocks in which no letter, number or blank was added since Unicode 12; without letters that fold to ASCII ones.
STEADY = (
    "\x00-\u017e\u0180-\u0377\u037a-\u052f\u0600-\u06ff\u0900-\u097f\u0e00-\u0e7f\u1100-\u11ff\u1e00-\u208e\u2090-\u209c"
    "\u20a0-\u2129\u212b-\u2bff\u3000-\u312e\u3130-\u318f\u3200-\u4db5\u4e00-\u9fef\uac00-\ud7a3\uf900-\ufad9\ufe10-\ufe6f\uff00-\uffef"
    "\U0001f300-\U0001faff"
)
PROBE = (
    "It's  a tab\tand 12345 words,\r\n\r\n  can't you'LL we'Ve \u00e9t\u00e9 \u4e2d\u6587\uff0c12\u300230\u00b0 "
    "\U0001f600\U0001f44d x_y=f(z);\n\n\n  \u00a0\u2003\x0b\x0c\x1c\x85\u0915\u0940 \u2460\u00b2\u2167 ...?!\n  end  "
)
LONGEST = 64  # characters of a word that is worth keeping
HELD = 500_000  # words kept before the dictionary starts anew
RECENT = 1 << 20  # characters of stretches kept with their ids, in each of two generations


@dataclass(frozen=True, slots=True)
class Stretch:
    """A text without added tokens, or one such token. words: what it was cut into."""

    ids: list[int]
    words: list[str]


@dataclass(frozen=True, slots=True)
class Joined:
    """Tokens of a text made of stretches. chars, tokens: where each of them starts, and where the last one ends."""

    ids: list[int]
    stretches: list[Stretch]
    chars: list[int]
    tokens: list[int]
    words: "Words"

    def first_from(self, place: int) -> int:
        """Index of the first token that starts at or after a character."""
        return self._from(place)[0]

    def begins(self, place: int) -> bool:
        """Whether a token begins at a character."""
        return place < self.chars[-1] and self._from(place)[1]

    def _from(self, place: int) -> tuple[int, bool]:
        """The first token that starts at or after a character, and whether it starts right there."""
        at = bisect_right(self.chars, place) - 1
        token, char = self.tokens[at], self.chars[at]
        if at == len(self.stretches) or char == place:
            return token, True
        for word in self.stretches[at].words:
            if char >= place:
                break
            if char + len(word) > place:
                before = len(word[: place - char].encode())
                bounds = self.words.bounds(word)
                inside = bisect_left(bounds, before)
                return token + inside, bounds[inside] == before
            token += len(self.words.of[word])
            char += len(word)
        return token, True


class Words:
    """Cuts texts and looks words up. Made by `words_of`.

    expression: what cuts a text into words. added: added tokens with their ids. composed: whether the tokenizer
    composes letters first, so that only texts which are composed already are for this.
    """

    def __init__(self, model: Any, expression: str, added: dict[str, int], composed: bool) -> None:
        import regex

        self.of = _Dictionary(model)
        self.added, self.composed = added, composed
        self.cut = regex.compile(expression).findall
        self.cut_ascii = _for_ascii(expression) or self.cut
        self.steady = regex.compile(f"[{STEADY}]*").fullmatch
        longest_first = sorted(added, key=lambda word: (-len(word), word))
        self.between = regex.compile(f"({'|'.join(map(regex.escape, longest_first)) or '(?!)'})").split
        self.young = {word: Stretch([number], [word]) for word, number in added.items()}
        self.old: dict[str, Stretch] = {}
        self.size = 0

    def tokens(self, text: str) -> Joined | None:
        """The tokens of a text; None for one that is the tokenizer's own work."""
        if not (text.isascii() or self._known_letters(text)):
            return None
        pieces = [piece for piece in self.between(text) if piece]
        made = [self.young.get(piece) or self._stretch(piece) for piece in pieces]
        return Joined(
            ids=list(chain.from_iterable([stretch.ids for stretch in made])),
            stretches=made,
            chars=list(accumulate(map(len, pieces), initial=0)),
            tokens=list(accumulate([len(stretch.ids) for stretch in made], initial=0)),
            words=self,
        )

    def _known_letters(self, text: str) -> bool:
        return self.steady(text) is not None and (not self.composed or unicodedata.is_normalized("NFC", text))

    def _stretch(self, piece: str) -> Stretch:
        """A stretch that is not among the young ones; when these are many, the old ones are forgotten."""
        made = self.old.get(piece)
        if made is None:
            words = self.cut_ascii(piece) if piece.isascii() else self.cut(piece)
            made = Stretch(list(chain.from_iterable(map(self.of.__getitem__, words))), words)
        if self.size > RECENT:
            self.old, self.size = self.young, 0
            self.young = {word: self.old[word] for word in self.added}
        self.size += len(piece)
        self.young[piece] = made
        return made

    def bounds(self, word: str) -> list[int]:
        """Where in the bytes of a word its tokens start, and where the last one ends."""
        if word in self.added:
            return [0, len(word.encode())]
        return list(accumulate(map(len, self.of.values_of(word)), initial=0))


class _Dictionary(dict[str, tuple[int, ...]]):
    """Ids of words; those that are not there yet come from the tokenizer's model."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.letters = model, _letters()

    def __missing__(self, word: str) -> tuple[int, ...]:
        ids = tuple(token.id for token in self._tokens(word))
        if len(word) <= LONGEST:
            if len(self) >= HELD:
                self.clear()
            self[word] = ids
        return ids

    def values_of(self, word: str) -> list[str]:
        """The tokens of a word, one letter a byte."""
        return [token.value for token in self._tokens(word)]

    def _tokens(self, word: str) -> Any:
        return self.model.tokenize("".join(map(self.letters.__getitem__, word.encode())))


def _letters() -> list[str]:
    """The letter that stands for each byte in byte-level vocabularies (GPT-2's table)."""
    shown = {*range(33, 127), *range(161, 173), *range(174, 256)}
    rest = iter(range(256, 512))
    return [chr(byte) if byte in shown else chr(next(rest)) for byte in range(256)]


def words_of(tokenizer: "PreTrainedTokenizerBase") -> Words | None:
    """The words of a tokenizer, or None where it is built in another way; tried on a text before it is trusted."""
    backend = tokenizer.backend_tokenizer
    expression = _expression(_state(backend.pre_tokenizer))
    normalizer, after = _state(backend.normalizer), _state(backend.post_processor)
    added = backend.get_added_tokens_decoder()
    plain = not any(t.lstrip or t.rstrip or t.single_word or t.normalized for t in added.values())
    if expression is None or not plain or not _plain_model(backend.model) or _trims(after):
        return None
    if normalizer not in (None, {"type": "NFC"}):
        return None
    made = Words(backend.model, expression, {str(t.content): n for n, t in added.items()}, normalizer is not None)
    text = PROBE + "".join(f" x{word}\n{word} " for word in made.added) + PROBE
    if not _same(made, backend, text):
        return None
    return made


def _same(made: Words, backend: Any, text: str) -> bool:
    ours, theirs = made.tokens(text), backend.encode(text, add_special_tokens=False)
    if ours is None or ours.ids != theirs.ids:
        return False
    starts = [start for start, _ in theirs.offsets]
    return all(ours.first_from(place) == bisect_left(starts, place) for place in range(len(text) + 1))


def _state(part: Any) -> Any:
    """A part of a tokenizer as its JSON says it."""
    return None if part is None else json.loads(part.__getstate__())


def _expression(cuts: Any) -> str | None:
    """What cuts a text, when that is one regular expression and then bytes."""
    match cuts:
        case {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": str(expression)}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
            ],
        } if "(" not in expression.replace("(?", ""):
            return expression
    return None


def _for_ascii(expression: str) -> Callable[[str], list[str]] | None:
    """The same cuts of ASCII text by `re`, which is faster; None for an expression that asks for more classes."""
    inside_class = re.compile(r"\[(?:\\.|[^\]\\])*\]")
    for name, members in ((r"\p{L}", "A-Za-z"), (r"\p{N}", "0-9")):
        parts = inside_class.split(expression)
        classes = [held.replace(name, members) for held in inside_class.findall(expression)]
        outside = [part.replace(name, f"[{members}]") for part in parts]
        expression = "".join(chain.from_iterable(zip(outside, [*classes, ""], strict=True)))
    return None if r"\p" in expression or r"\P" in expression else re.compile(expression, re.ASCII).findall


def _plain_model(model: Any) -> bool:
    """Whether it is BPE over all bytes without further habits."""
    odd = ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", "byte_fallback")
    if type(model).__name__ != "BPE" or any(getattr(model, name, None) for name in odd):
        return False
    return all(model.token_to_id(letter) is not None for letter in _letters())


def _trims(after: Any) -> bool:
    """Whether offsets leave blanks out, which would put the borders of labels elsewhere."""
    parts = after["processors"] if after and after["type"] == "Sequence" else [after] if after else []
    return any(part["type"] != "TemplateProcessing" and part.get("trim_offsets", True) for part in parts)
