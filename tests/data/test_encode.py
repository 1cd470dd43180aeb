"""Labels by the contract: ids as the chat template makes them, turns in the context of inference, weights by rules."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from runner.core.places import package_root
from runner.core.specs import Template
from runner.core.types import UNTRAINED, Encoded, Example, Message
from runner.data import gate, rules
from runner.data.dropped import Dropped
from runner.data.encode import Encoder
from tests.data.conversations import conversations, mappings, template_ids
from tests.tiny import tiny_tokenizer

KINDS = {kind: tiny_tokenizer(kind) for kind in ("chatml", "thinker")}
TOOLS = ({"type": "function", "function": {"name": "look", "description": "Looks."}},)
END = "<|im_end|>"


def encoder(kind: str = "chatml", names: Any = ("default",), length: int | None = None, **keys: Any) -> Encoder:
    """An encoder on a tiny tokenizer."""
    overlong = keys.pop("overlong", "drop")
    return Encoder(KINDS[kind], Template(**keys), rules.load(list(names)), length, overlong)


def encoded(
    messages: tuple[Message, ...], kind: str = "chatml", names: Any = ("default",), **keys: Any
) -> list[Encoded]:
    """The sequences of a conversation, which must not be dropped."""
    made = encoder(kind, names, **keys).encode(Example(messages, "here.jsonl", 7))
    assert isinstance(made, list), made
    return made


def trained_text(sequence: Encoded, kind: str = "chatml") -> list[str]:
    """Runs of trained tokens as text."""
    runs: list[list[int]] = [[]]
    for token, label in zip(sequence.input_ids, sequence.labels, strict=True):
        if label == UNTRAINED:
            runs.append([])
        else:
            assert label == token
            runs[-1].append(token)
    return [KINDS[kind].decode(run) for run in runs if run]


def turn(question: str, answer: str, **more: Any) -> tuple[Message, Message]:
    """One round."""
    return Message("user", question), Message("assistant", answer, **more)


@pytest.mark.parametrize("kind", ["chatml", "thinker"])
@settings(max_examples=60, deadline=None)
@given(messages=conversations())
def test_ids_are_those_of_the_chat_template(kind: str, messages: tuple[Message, ...]) -> None:
    """Every sequence is `apply_chat_template` of the messages that it holds, and covers each turn once."""
    tokenizer, entries = KINDS[kind], mappings(messages, kind == "thinker")
    made = encoded(messages, kind)
    for sequence in made:
        assert sequence.input_ids == template_ids(tokenizer, entries[: sequence.turn + 1])
        assert sequence.text == tokenizer.apply_chat_template(entries[: sequence.turn + 1], tokenize=False)
        assert (sequence.source, sequence.row) == ("here.jsonl", 7)
    answers = [text for sequence in made for text in trained_text(sequence, kind)]
    assert len(answers) == sum(message.role == "assistant" for message in messages)
    assert all(answer.endswith(END) and answer.count(END) == 1 for answer in answers)
    texts = [sequence.text for sequence in made]
    assert not any(
        long.startswith(short) for short in texts for long in texts if short is not long
    )  # as few as possible


@pytest.mark.parametrize("kind", ["chatml", "thinker"])
@settings(max_examples=60, deadline=None)
@given(messages=conversations(tools=True))
def test_a_turn_is_trained_in_the_context_that_it_has_at_inference(kind: str, messages: tuple[Message, ...]) -> None:
    """The ids before each trained turn are those of an inference prompt for it: thinking, or not."""
    if kind == "chatml" and any(message.tool_calls for message in messages):
        assert isinstance(encoder(kind).encode(Example(messages)), Dropped)
        return
    tokenizer, entries = KINDS[kind], mappings(messages, kind == "thinker")
    made = encoder(kind).encode(Example(messages, tools=TOOLS if kind == "thinker" else ()))
    assert isinstance(made, list)
    offered = {"tools": [dict(tool) for tool in TOOLS]} if kind == "thinker" else {}
    prompts = [
        template_ids(tokenizer, entries[:index], add_generation_prompt=True, enable_thinking=mode, **offered)
        for index, message in enumerate(messages)
        if message.role == "assistant"
        for mode in (True, False)
    ]
    starts = 0
    for sequence in made:
        for place, label in enumerate(sequence.labels):
            if label != UNTRAINED and sequence.labels[place - 1] == UNTRAINED:
                starts += 1
                assert sequence.input_ids[:place] in prompts
    assert starts == sum(message.role == "assistant" for message in messages)


def test_one_sequence_holds_all_turns_where_nothing_is_rewritten() -> None:
    """And one each where earlier thoughts are dropped."""
    talk = turn("a", "<think>\nx\n</think>\n\none") + turn("b", "<think>\ny\n</think>\n\ntwo")
    assert [sequence.turn for sequence in encoded(talk, "chatml")] == [3]
    assert [sequence.turn for sequence in encoded(talk, "thinker")] == [1, 3]
    assert trained_text(encoded(talk, "thinker")[1], "thinker") == [f"<think>\ny\n</think>\n\ntwo{END}"]


def test_thoughts_between_calls_of_tools_stay_in_one_sequence() -> None:
    """They are in the context of the next call at inference too."""
    call = {"type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}
    talk = (
        Message("user", "q"),
        Message("assistant", "", (call,), reasoning="first"),
        Message("tool", "42"),
        Message("assistant", "it is 42", reasoning="then"),
    )
    made = encoder("thinker").encode(Example(talk, tools=TOOLS))
    assert isinstance(made, list) and len(made) == 1
    first, then = trained_text(made[0], "thinker")
    assert (
        first
        == f'<think>\nfirst\n</think>\n\n<tool_call>\n{{"name": "look", "arguments": {{"at": 1}}}}\n</tool_call>{END}'
    )
    assert then == f"<think>\nthen\n</think>\n\nit is 42{END}"
    assert "42" in made[0].text.split("<tool_response>")[1]


def test_choices_of_turns() -> None:
    """`all` trains every turn of one rendering, `last` the last one."""
    talk = turn("a", "<think>\nx\n</think>\n\none") + turn("b", "two") + turn("c", "<think>\ny\n</think>\n\nthree")
    (whole,) = encoded(talk, "thinker", turns="all")
    assert trained_text(whole, "thinker") == [f"one{END}", f"two{END}", f"<think>\ny\n</think>\n\nthree{END}"]
    (last,) = encoded(talk, "thinker", turns="last")
    assert trained_text(last, "thinker") == [f"<think>\ny\n</think>\n\nthree{END}"]
    assert last.input_ids == whole.input_ids


def test_an_empty_block_of_the_row_is_answer_and_one_of_the_template_is_context() -> None:
    """The ids are the same; what is trained is not."""
    (given_block,) = encoded(turn("q", "<think>\n\n</think>\n\nyes"), "thinker")
    (added_block,) = encoded(turn("q", "yes"), "thinker")
    (ignored,) = encoded(turn("q", "<think>\n\n</think>\n\nyes"), "thinker", ["ignore_empty_think"])
    assert given_block.input_ids == added_block.input_ids == ignored.input_ids
    assert trained_text(given_block, "thinker") == [f"<think>\n\n</think>\n\nyes{END}"]
    assert trained_text(added_block, "thinker") == trained_text(ignored, "thinker") == [f"yes{END}"]


def test_empty_blocks_can_be_added_and_stripped() -> None:
    """On any template."""
    block = "<think>\n\n</think>\n\n"
    (added,) = encoded(turn("q", "yes"), empty_think="add")
    assert trained_text(added) == [f"{block}yes{END}"]
    (stripped,) = encoded(turn("q", f"{block}yes"), empty_think="strip")
    assert trained_text(stripped) == [f"yes{END}"]
    (kept,) = encoded(turn("q", "<think>\nso\n</think>\n\nyes"), empty_think="strip")
    assert trained_text(kept) == [f"<think>\nso\n</think>\n\nyes{END}"]


def test_rules_of_rounds() -> None:
    """`last_round` trains what follows the last user message, `all` trains everything but the first token."""
    talk = turn("a", "one") + turn("b", "two")
    (last,) = encoded(talk, names=["last_round"])
    assert trained_text(last) == [f"two{END}"]
    (every,) = encoded(talk, names=["all"])
    assert every.labels == [UNTRAINED, *every.input_ids[1:]]
    (unchanged,) = encoded(talk, names=["default"])
    assert trained_text(unchanged) == [f"one{END}", f"two{END}"]


def test_every_token_is_trained_once_under_all_when_a_row_becomes_several_sequences() -> None:
    """A question that an earlier sequence holds is context in a later one."""
    talk = turn("first", "<think>\nx\n</think>\n\none") + turn("second", "two")
    made = encoded(talk, "thinker", ["all"])
    texts = ["".join(trained_text(sequence, "thinker")) for sequence in made]
    assert [("first" in text, "second" in text) for text in texts] == [(True, False), (False, True)]
    assert texts[1].startswith("<|im_start|>user\nsecond")


def test_the_newline_after_a_turn_is_trained_only_on_request() -> None:
    """As the peer does it."""
    talk = turn("a", "one") + turn("b", "two", loss=False) + turn("c", "three")
    (parity,) = encoded(talk, names=[{"default": {"parity": "swift"}}])
    assert trained_text(parity) == [f"one{END}\n", f"three{END}\n"]


def test_messages_have_the_last_word() -> None:
    """`loss` over the rules that choose, `loss_scale` over those that scale."""
    talk = turn("a", "one", loss=False) + turn("b", "two", loss_scale=0.5) + turn("c", "three")
    (made,) = encoded(talk, names=["default", {"patterns": {"regex": {".+": 3}}}])
    assert trained_text(made) == [f"two{END}", f"three{END}"]
    weights = [w for w, label in zip(made.weights or [], made.labels, strict=True) if label != UNTRAINED]
    first = len(KINDS["chatml"](f"two{END}")["input_ids"])
    assert weights == [0.5] * first + [3.0] * (len(weights) - first)
    (kept,) = encoded(turn("a", "one", loss=True) + turn("b", "two"), names=["last_round"])
    assert trained_text(kept) == [f"one{END}", f"two{END}"]


def test_a_user_turn_is_trained_where_it_says_so() -> None:
    """With the token that ends it, without which the gate refuses the row; and nothing else around it."""
    (made,) = encoded((Message("user", "hello", loss=True), Message("assistant", "thank you")))
    assert trained_text(made) == [f"hello{END}", f"thank you{END}"]
    gate.check([made], KINDS["chatml"])


def test_no_weights_where_all_are_one() -> None:
    """So that fused losses stay in use."""
    talk = turn("a", "<think>\n\n</think>\n\none")
    assert encoded(talk, "thinker")[0].weights is None
    assert encoded(talk, "thinker", ["ignore_empty_think"])[0].weights is None
    weights = encoded(talk, "thinker", [{"patterns": {"regex": {"one": 2}}}])[0].weights
    assert weights is not None and set(weights) == {0.0, 1.0, 2.0}


def test_control_tokens_that_a_row_spells_stay_text() -> None:
    """In every part of a message; the template's own stay tokens, `<think>` stays one."""
    tokenizer = KINDS["thinker"]
    talk = turn("what is <|im_end|>?", "<think>\nhm <|im_start|>\n</think>\n\n<|im_end|> ends a turn", reasoning=None)
    one = encoder("thinker")
    (made,) = one.encode(Example(talk))
    assert isinstance(made, Encoded)
    assert made.input_ids.count(tokenizer.convert_tokens_to_ids(END)) == 2
    assert made.input_ids.count(tokenizer.convert_tokens_to_ids("<|im_start|>")) == 2
    assert made.input_ids.count(tokenizer.convert_tokens_to_ids("<think>")) == 1
    assert (
        tokenizer.decode(made.input_ids)
        == made.text
        == tokenizer.apply_chat_template(mappings(talk, True), tokenize=False)
    )
    assert trained_text(made, "thinker") == [f"<think>\nhm <|im_start|>\n</think>\n\n<|im_end|> ends a turn{END}"]
    assert one.notes["rows that spell a control token, kept as text"] == 1


def test_the_end_of_turn_token_is_trained_though_it_is_the_pad_token() -> None:
    """Labels never look for a token."""
    tokenizer = KINDS["chatml"]
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    (made,) = encoded(turn("a", "one"))
    ended = [i for i, token in enumerate(made.input_ids) if token == tokenizer.eos_token_id]
    assert [made.labels[i] != UNTRAINED for i in ended] == [False, False, True]


def test_plain_text_is_trained_with_its_end() -> None:
    """Without a chat template; a long one is split, each window with an untrained first token."""
    text = "the capital of France is Paris. " * 4
    (made,) = encoder().encode(Example((), text="the capital of France"))
    assert isinstance(made, Encoded)
    assert (
        KINDS["chatml"].decode(made.labels[1:])
        == f" capital of France{END}"[-len(KINDS["chatml"].decode(made.labels[1:])) :]
    )
    parts = encoder(length=8, overlong="split").encode(Example((), text=text))
    assert isinstance(parts, list)
    assert [len(part.input_ids) for part in parts[:-1]] == [8] * (len(parts) - 1)
    assert all(part.labels == [UNTRAINED, *part.input_ids[1:]] for part in parts)


@pytest.mark.parametrize("length", [2, 3, 7, 8, 9])
def test_every_token_of_a_document_that_is_split_is_trained_once(length: int) -> None:
    """The first one of each window was learned nowhere, and a last window of one token was lost."""
    for words in range(1, 12):
        given = Example((), text="the capital of France is Paris. "[: 3 * words])
        whole, parts = encoder().encode(given), encoder(length=length, overlong="split").encode(given)
        assert isinstance(whole, list) and isinstance(parts, list)
        assert [token for part in parts for token in part.labels[1:]] == whole[0].input_ids[1:]
        assert [part.input_ids[0] for part in parts[1:]] == [part.input_ids[-1] for part in parts[:-1]]
        assert max(len(part.input_ids) for part in parts) <= length


@settings(max_examples=60, deadline=None)
@given(messages=conversations())
def test_truncation_keeps_labels_beside_their_tokens(messages: tuple[Message, ...]) -> None:
    """A cut sequence is a piece of the whole one, at most max_length long, with something to train."""
    (whole,) = encoded(messages)
    for limit in (4, 9, 17):
        for overlong in ("truncate_left", "truncate_right"):
            made = encoder(length=limit, overlong=overlong).encode(Example(messages))
            cut = slice(-limit, None) if overlong == "truncate_left" else slice(0, limit)
            labels = [UNTRAINED, *whole.labels[cut][1:]]
            if len(whole.input_ids) <= limit:
                labels = whole.labels
            if all(label == UNTRAINED for label in labels):
                assert isinstance(made, Dropped)
            else:
                assert isinstance(made, list)
                assert (made[0].input_ids, made[0].labels) == (whole.input_ids[cut], labels)
    assert isinstance(encoder(length=4).encode(Example(messages)), Dropped)


def test_rows_cut_to_max_length_are_counted() -> None:
    """They were cut without a word: an answer without its end teaches the model not to stop."""
    row = turn("a", "the capital of France is Paris. " * 3)
    (whole,) = encoded(row)
    limit = len(whole.input_ids) - 4
    right, left = (encoder(length=limit, overlong=f"truncate_{side}") for side in ("right", "left"))
    for one in (right, left):
        one.encode(Example(row))
        one.encode(Example(turn("a", "b")))
        assert one.notes[f"rows longer than max_length ({limit}), cut by overlong: {one.overlong}"] == 1
    ended = "answers whose end is cut off, so that nothing shows the model where to stop"
    assert (right.notes[ended], ended in left.notes) == (1, False)


def test_turns_that_a_cut_takes_away_are_counted() -> None:
    """A thinker's row is a sequence a turn; the later ones keep nothing that is trained."""
    one = encoder("thinker", length=40, overlong="truncate_right")
    one.encode(Example(turn("a", "<think>\nx\n</think>\n\none") + turn("b" * 60, "two")))
    assert one.notes["turns of these rows that are not trained, as the cut took all of them"] == 1


def test_split_of_conversations_tells_that_it_cuts_plain_text_only() -> None:
    """The row was dropped as if the recipe had said `drop`."""
    made = encoder(length=20, overlong="split").encode(Example(turn("a", "one " * 50)))
    assert isinstance(made, Dropped)
    assert made.detail.endswith("; split cuts plain text only")


DROPPED = {
    "no answer": ((Message("user", "a"),), {}, "it has no assistant turn"),
    "nothing trained": (turn("a", "one", loss=False), {}, "nothing in it is trained: every weight is 0"),
    "too long": (turn("a", "one " * 50), {"length": 20}, "longer than max_length"),
    "answer first": ((Message("assistant", "hi"),), {}, "the chat template refuses it"),
    "tool calls that the template ignores": (
        (Message("user", "a"), Message("assistant", "", ({"function": {"name": "f", "arguments": {}}},))),
        {},
        "the chat template refuses it",
    ),
    "words that the template loses": (
        turn("a", "first <think>\nx\n</think>\n\nlast"),
        {"kind": "thinker"},
        "the chat template refuses it",
    ),
    "split of a conversation": (turn("a", "one " * 50), {"length": 20, "overlong": "split"}, "longer than max_length"),
}


@pytest.mark.parametrize("case", DROPPED)
def test_a_row_that_cannot_be_trained_on_is_dropped_with_its_reason(case: str) -> None:
    """Never silently."""
    messages, keys, reason = DROPPED[case]
    made = encoder(**keys).encode(Example(messages, "file.jsonl", 3))
    assert isinstance(made, Dropped)
    assert (made.source, made.row, made.reason) == ("file.jsonl", 3, reason)


def test_the_report_counts_thoughts() -> None:
    """How many trained turns think, do not, or break off."""
    one = encoder("thinker")
    one.encode(Example(turn("a", "<think>\nx\n</think>\n\none") + turn("b", "two") + turn("c", "<think>\nhm")))
    assert one.notes == {
        "trained turns that think": 1,
        "trained turns that do not think": 1,
        "trained turns that break off inside a thought": 1,
    }


def test_many_rows_are_encoded_as_one_by_one() -> None:
    """Whatever the batch."""
    rows = [Example(turn(f"q{i}", f"answer {i} <|im_end|>" if i % 3 else f"answer {i}"), "f", i) for i in range(20)]
    together = list(encoder().encode_many(rows, at_once=7))
    assert together == [encoder().encode(row) for row in rows]


def test_plugins_see_what_a_person_reads(tmp_path: Path) -> None:
    """Spans come with role, turn and round, and never hold placeholders of ours."""
    folder = tmp_path / "plugins" / "loss_scales"
    folder.mkdir(parents=True)
    (folder / "spy.py").write_text(
        "SEEN = []\n\ndef spy(span, *, times: float = 1.0):\n"
        "    SEEN.append((span.text, span.role, span.turn, span.last))\n    return [(span.text, times)]\n"
    )
    talk = turn("a <|im_end|>", "one <|im_end|>") + turn("b", "two")
    loaded = rules.load(["all", "spy"], [tmp_path, package_root()])
    Encoder(KINDS["chatml"], Template(), loaded).encode(Example(talk))
    seen = [entry for entry in loaded.scaling[0].function.__globals__["SEEN"] if entry[1] != "template"]
    assert set(seen) == {
        ("a <|im_end|>", "user", 0, False),
        ("one <|im_end|>", "assistant", 1, False),
        (END, "assistant", 1, False),
        ("b", "user", 2, False),
        ("two", "assistant", 3, True),
        (END, "assistant", 3, True),
    }


def test_an_answer_that_begins_inside_a_token_is_reported() -> None:
    """A newline in front of it is one token with the prompt's: the ids are the template's, that token is untrained."""
    one = encoder()
    (made,) = one.encode(Example(turn("a", "\nthe answer")))
    assert isinstance(made, Encoded)
    assert made.input_ids == template_ids(KINDS["chatml"], mappings(turn("a", "\nthe answer"), False))
    assert trained_text(made) == [f"the answer{END}"]
    assert one.notes["answers that begin inside a token, which stays untrained"] == 1
