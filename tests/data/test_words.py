"""Ids from the dictionary of words are the tokenizer's own, for any text that it takes on; borders of labels too."""

from bisect import bisect_left

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.data import words
from runner.data.control import ControlTokens, Guarded
from runner.data.tokens import Whole, tokenize
from runner.data.words import Words, words_of
from tests.tiny import tiny_tokenizer

TOKENIZER = tiny_tokenizer("thinker")
QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PARTS = [
    "<think>",
    "</think>",
    "<|im_end|>",
    "\n\n",
    " ",
    "\u00a0",
    "'s",
    "12",
    "hello",
    "\u00e9",
    "e\u0301",
    "\u4e2d",
    "\U0001f44d\U0001f3fd",
]
TEXTS = st.lists(st.one_of(st.sampled_from(PARTS), st.text(max_size=4)), max_size=14).map("".join)


def made() -> Words:
    """Of the tiny tokenizer, which is of the kind that this is for."""
    found = words_of(TOKENIZER)
    assert found is not None
    return found


@settings(max_examples=300, deadline=None)
@given(text=TEXTS)
def test_ids_and_borders_are_those_of_the_tokenizer(text: str) -> None:
    """Or the text is left to it."""
    ours, theirs = made().tokens(text), TOKENIZER.backend_tokenizer.encode(text, add_special_tokens=False)
    if ours is None:
        assert not text.isascii()
        return
    assert ours.ids == theirs.ids
    starts, whole = [start for start, _ in theirs.offsets], Whole(theirs.ids, theirs, len(text))
    for place in range(len(text) + 1):
        assert ours.first_from(place) == bisect_left(starts, place) == whole.first_from(place)
    assert all(ours.begins(place) == whole.begins(place) for place in range(len(text)))


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(TEXTS, max_size=5))
def test_many_texts_come_back_in_their_order(texts: list[str]) -> None:
    """Those of the dictionary, and those that the tokenizer does."""
    guarded = [Guarded(text) for text in texts]
    tokens = list(tokenize(TOKENIZER, ControlTokens(TOKENIZER), made(), guarded))
    assert [held.ids for held in tokens] == [TOKENIZER(text, add_special_tokens=False)["input_ids"] for text in texts]


def test_every_steady_letter_is_cut_as_the_tokenizer_cuts_it() -> None:
    """All 48 thousand of them, by the expression of Qwen, in several neighbourhoods."""
    from tokenizers import Regex, pre_tokenizers

    split = pre_tokenizers.Split(Regex(QWEN), behavior="isolated")
    mine = Words(TOKENIZER.backend_tokenizer.model, QWEN, {}, True)
    letters = [chr(code) for code in range(0x20000) if mine.steady(chr(code)) and not 0xD800 <= code < 0xE000]
    assert len(letters) > 40_000
    for some in range(0, len(letters), 16):
        text = "".join(f"a{c}a {c} {c}1{c}'{c}re\n{c}\r {c}{c}  {c}" for c in letters[some : some + 16])
        assert mine.cut(text) == [text[start:end] for _, (start, end) in split.pre_tokenize_str(text)], letters[some]


@settings(max_examples=400, deadline=None)
@given(text=st.text(st.characters(max_codepoint=127), max_size=40))
def test_ascii_text_is_cut_the_same_by_the_quicker_expression(text: str) -> None:
    """Control characters included."""
    mine = Words(TOKENIZER.backend_tokenizer.model, QWEN, {}, True)
    assert mine.cut_ascii is not mine.cut
    assert mine.cut_ascii(text) == mine.cut(text)


def test_what_was_read_long_ago_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """And read again with the same result."""
    monkeypatch.setattr(words, "RECENT", 40)
    monkeypatch.setattr(words, "HELD", 5)
    mine = made()
    texts = [f"word{number} and more<think>" for number in range(50)]
    first = [mine.tokens(text) for text in texts]
    assert len(mine.young) + len(mine.old) < 40 and len(mine.of) <= 5
    again = [mine.tokens(text) for text in texts]
    assert [held and held.ids for held in first] == [held and held.ids for held in again]


def test_tokenizers_of_another_kind_are_left_alone() -> None:
    """Words that depend on their neighbours, added tokens that swallow blanks, offsets without blanks."""
    from tokenizers import AddedToken, normalizers, pre_tokenizers, processors

    def changed(change: str) -> object:
        other = tiny_tokenizer("thinker")
        backend = other.backend_tokenizer
        if change == "metaspace":
            backend.pre_tokenizer = pre_tokenizers.Metaspace()
        elif change == "normalizer":
            backend.normalizer = normalizers.Lowercase()
        elif change == "prefix space":
            backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        elif change == "trimmed":
            backend.post_processor = processors.ByteLevel(trim_offsets=True)
        elif change == "strip":
            backend.add_special_tokens([AddedToken("<|x|>", rstrip=True, normalized=False)])
        elif change == "dropout":
            backend.model.dropout = 0.1
        return words_of(other)

    assert changed("nothing") is not None
    for change in ("metaspace", "normalizer", "prefix space", "trimmed", "strip", "dropout"):
        assert changed(change) is None, change
