"""Each format on good rows, and on rows broken in five ways or more: what comes out, or the reason to drop the row."""

import json
from typing import Any

import pytest

from runner.core.places import package_root
from runner.core.types import Example, Message
from runner.data import choose_format
from runner.data.chat import chat
from runner.formats._row import BadRow, Unclear
from runner.formats.kto import kto
from runner.stages._questions import as_row

U, A = Message("user", "q"), Message("assistant", "r")
SAID = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}]
CALL = {"type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
BARE = {"type": "function", "function": {"name": "f", "arguments": {}}}
OTHER = [SAID[0], {"role": "assistant", "content": "x"}]
TOOL = {"type": "function", "function": {"name": "f"}}
GPT = {"from": "gpt", "value": "r"}
PAIR = {"prompt": "q", "chosen": "good", "rejected": "bad"}


def read(row: dict[str, Any], name: str | None = None) -> Example:
    """Read a row with the format that its columns choose, or with the one named."""
    chosen = choose_format.named(row, "f:1")
    if name is not None:
        assert chosen == name
    return choose_format.load(chosen, [package_root()])(row)


SPOKEN = {"from": "human", "value": "q", "role": None, "content": None}  # in a table of both kinds of messages
CALLED = {"from": "Function_Call", "value": '{"name": "f"}'}

GOOD: list[tuple[str, dict[str, Any], tuple[Message, ...]]] = [
    ("messages", {"messages": [SPOKEN, {**GPT, "role": None, "content": None}]}, (U, A)),
    ("sharegpt", {"conversations": [{"from": "human", "value": "q"}, CALLED, CALLED, GPT]},
     (U, Message("assistant", "", (BARE, BARE)), A)),
    ("alpaca", {"instruction": "q", "input": " \n", "output": "r"}, (U, A)),
    ("messages", {"messages": SAID}, (U, A)),
    ("messages", {"messages": json.dumps(SAID)}, (U, A)),
    ("messages", {"messages": SAID, "system": "s"}, (Message("system", "s"), U, A)),
    ("messages", {"messages": SAID, "question": "x", "answer": "y", "text": "z"}, (U, A)),
    ("messages", {"conversations": SAID}, (U, A)),
    ("messages", {"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]}, SAID[1]]}, (U, A)),
    (
        "messages",
        {"messages": [SAID[0], {**SAID[1], "reasoning_content": "t", "loss": False, "loss_scale": 2}]},
        (U, Message("assistant", "r", reasoning="t", loss=False, loss_scale=2.0)),
    ),
    (
        "messages",
        {"messages": [SAID[0], {**SAID[1], "content": None, "tool_calls": [CALL]}, {"role": "tool", "content": "42"}]},
        (U, Message("assistant", "", (CALL,)), Message("tool", "42")),
    ),
    (
        "messages",
        {"messages": [SAID[0], *[{"role": "tool_call", "content": '{"name": "f", "arguments": {"a": 1}}'}] * 2]},
        (U, Message("assistant", "", ({"type": "function", "function": {"name": "f", "arguments": {"a": 1}}},) * 2)),
    ),
    ("sharegpt", {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "r"}]}, (U, A)),
    ("sharegpt", {"conversations": [{"human": "q", "assistant": "r"}]}, (U, A)),
    (
        "sharegpt",
        {
            "conversations": [
                {"from": "human", "value": "q"},
                {"from": "function_call", "value": '{"name": "f", "arguments": {}}'},
                {"from": "observation", "value": "42"},
                {"from": "gpt", "value": "r"},
            ]
        },
        (U, Message("assistant", "", (BARE,)), Message("tool", "42"), A),
    ),
    ("alpaca", {"instruction": "q", "input": "", "output": "r"}, (U, A)),
    ("alpaca", {"instruction": "a", "input": "b", "output": "r"}, (Message("user", "a\nb"), A)),
    ("alpaca", {"instruction": "q", "output": "r", "history": [["q", "r"]]}, (U, A, U, A)),
    ("query_response", {"query": "q", "response": "r"}, (U, A)),
    ("query_response", {"question": "q", "answer": "r", "tag": "en"}, (U, A)),
    ("query_response", {"problem": "q", "solution": "r", "history": '[["q", "r"]]'}, (U, A, U, A)),
    ("prompt", {"prompt": "q", "reference": "42"}, (U,)),
    ("prompt", {"prompt": [SAID[0]]}, (U,)),
    ("prompt", {"instruction": "a", "input": "b"}, (Message("user", "a\nb"),)),
    ("preference", PAIR, (U, Message("assistant", "good"))),
    ("preference", {"chosen": SAID, "rejected": OTHER}, (U, A)),
    ("preference", {"prompt": "q", "chosen": SAID, "rejected": OTHER}, (U, A)),
    ("preference", {"messages": SAID, "rejected_response": "x"}, (U, A)),
    ("preference", {"query": "q", "response": "r", "rejected_response": "x"}, (U, A)),
    ("preference", {"messages": SAID, "rejected_messages": OTHER}, (U, A)),
    (
        "preference",
        {"conversations": [{"from": "human", "value": "q"}], "chosen": GPT, "rejected": {**GPT, "value": "x"}},
        (U, A),
    ),
    ("preference", {"instruction": "a", "input": "b", "chosen": "r", "rejected": "x"}, (Message("user", "a\nb"), A)),
    ("kto", {"messages": SAID, "label": True}, (U, A)),
    ("kto", {"prompt": "q", "completion": "r", "label": False}, (U, A)),
    ("kto", {"prompt": SAID[:1], "completion": SAID[1:], "label": True}, (U, A)),
    ("kto", {"prompt": "q", "completion": SAID, "label": True}, (U, A)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "row", "messages"), GOOD, ids=[f"{name}-{i}" for i, (name, _, _) in enumerate(GOOD)])
def test_a_good_row_is_read(name: str, row: dict[str, Any], messages: tuple[Message, ...]) -> None:
    """By the format that its columns choose."""
    before = json.dumps(row)
    assert read(row, name).messages == messages
    assert json.dumps(row) == before  # a format changes no column


def test_what_comes_beside_the_messages() -> None:
    """Tools, the other answer, the label, plain text."""
    assert read({"messages": SAID, "tools": json.dumps([TOOL])}).tools == (TOOL,)
    assert read({"messages": SAID, "tools": [json.dumps(TOOL)]}).tools == (TOOL,)
    assert read(PAIR).rejected == (U, Message("assistant", "bad"))
    assert (
        read({"messages": SAID, "rejected_response": [{"role": "assistant", "content": "x"}]}).rejected[-1].content
        == "x"
    )
    assert read({"messages": SAID, "label": False}, "kto").label is False
    for label in (0, "0", "False", "false"):
        assert kto({"messages": SAID, "label": label}).label is False
    assert kto({"query": "q", "response": "r", "label": 1}).label is True
    assert read({"text": "all of it"}, "text").text == "all of it"
    assert read({"messages": SAID, "label": 3}, "messages").label is None


@pytest.mark.parametrize(
    ("words", "loss"),
    [
        ({"weight": 0}, False), ({"weight": 1}, None), ({"weight": None}, None), ({"train": False}, False),
        ({"training": True}, True), ({"weight": 0, "loss": True}, True),
    ],
)  # fmt: skip
def test_other_tools_words_for_an_untrained_message_count(words: dict[str, Any], loss: bool | None) -> None:
    """OpenAI's weight and Axolotl's train were passed over, and the message was trained on."""
    assert read({"messages": [SAID[0], {**SAID[1], **words}]}).messages == (U, Message("assistant", "r", loss=loss))


def test_thoughts_are_found_beside_an_empty_key() -> None:
    """A null reasoning_content hid the reasoning: the thoughts were lost."""
    said = {**SAID[1], "reasoning_content": None, "reasoning": "t"}
    assert read({"messages": [SAID[0], said]}).messages[1].reasoning == "t"


def test_a_call_in_its_old_form_is_a_call() -> None:
    """OpenAI's function_call beside a content was left out, without one the row was dropped as empty."""
    for content in ("r", None):
        said = {"role": "assistant", "content": content, "function_call": CALL["function"]}
        assert read({"messages": [SAID[0], said]}).messages[1] == Message("assistant", content or "", (CALL,))


def test_a_result_says_which_call_it_answers() -> None:
    """Templates that show the call's id (Mistral's, Kimi's) and servers that ask for it got none."""
    said = [SAID[0], {**SAID[1], "tool_calls": [{**CALL, "id": "c1"}]}]
    answer = {"role": "tool", "content": "42", "tool_call_id": "c1"}
    made = read({"messages": [*said, answer]}).messages
    assert made[2] == Message("tool", "42", tool_call_id="c1")
    assert chat(made, "")[2] == as_row(made[2]) == answer


def test_a_message_says_of_its_loss_in_a_row_of_answers_what_it_said_before() -> None:
    """An earlier turn that must not be learned was learned from the rows of `infer`."""
    said = [{**SAID[0], "loss": True}, {**SAID[1], "loss": False}, SAID[0], {**SAID[1], "loss_scale": 0.5}]
    made = read({"messages": said}).messages
    assert [(message.loss, message.loss_scale) for message in made][1::2] == [(False, None), (None, 0.5)]
    assert read({"messages": [as_row(message) for message in made]}).messages == made


@pytest.mark.parametrize(
    "row",
    [
        {"chosen": SAID, "rejected": OTHER},
        {"messages": SAID, "rejected_messages": OTHER},
        {"messages": SAID, "rejected_response": "x"},
        {"prompt": "q", "chosen": "r", "rejected": "x"},
    ],
)
def test_a_system_column_stands_before_both_answers(row: dict[str, Any]) -> None:
    """Before whole conversations it was left out, with rejected_messages on one side only."""
    made = read({**row, "system": "s"}, "preference")
    assert made.messages == (Message("system", "s"), U, A)
    assert made.rejected == (Message("system", "s"), U, Message("assistant", "x"))
    assert kto({"completion": SAID, "system": "s", "label": True}).messages == made.messages


def test_no_tools_written_as_text_are_no_tools() -> None:
    """Tables write null and [] so; the row was dropped."""
    assert [read({"messages": SAID, "tools": held}).tools for held in ("null", "[]", "", None)] == [()] * 4


def test_lists_of_messages_may_be_written_as_text() -> None:
    """A table cannot hold lists: their JSON was learned as the words of an answer."""
    asked, said, other = (json.dumps([each]) for each in (SAID[0], SAID[1], OTHER[1]))
    pair = read({"prompt": asked, "chosen": said, "rejected": other}, "preference")
    assert (pair.messages, pair.rejected) == ((U, A), (U, Message("assistant", "x")))
    assert read({"prompt": asked}, "prompt").messages == (U,)
    assert read({"prompt": asked, "completion": said}, "query_response").messages == (U, A)
    assert read({"prompt": [SAID[0]], "completion": [SAID[1]]}, "query_response").messages == (U, A)
    assert read({"prompt": [SAID[0]], "completion": "r"}, "query_response").messages == (U, A)
    assert kto({"prompt": asked, "completion": said, "label": True}).messages == (U, A)
    assert read({"query": "q", "response": said}, "query_response").messages == (U, Message("assistant", said))
    assert read({"prompt": "q", "chosen": said, "rejected": "no"}, "preference").messages[1].content == said


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "text", "text": None}, {"type": "text", "text": "yo"}], "yo"),
        ([{"city": "Rome"}, {"city": "Bonn"}], '[{"city": "Rome"}, {"city": "Bonn"}]'),
    ],
)
def test_parts_without_text_are_no_words(content: Any, text: str) -> None:
    """None was learned as a word, and what a tool returned was lost."""
    said = [SAID[0], {"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "content": content}, SAID[1]]
    assert read({"messages": said}).messages[2].content == text


def test_functions_are_tools_as_openai_called_them_once() -> None:
    """Calls of them were trained with no word of what could be called."""
    assert read({"messages": SAID, "functions": [{"name": "f"}]}).tools == (TOOL,)
    assert read({"messages": SAID, "functions": [{"name": "g"}], "tools": [TOOL]}).tools == (TOOL,)


def test_a_null_is_a_broken_row_and_not_an_unknown_format() -> None:
    """It stopped the whole training, and said that the columns are not known."""
    for row in ({"query": None, "response": "r"}, {"messages": None}, {"text": None}):
        with pytest.raises(BadRow):
            read(row)


BAD: list[tuple[dict[str, Any], str]] = [
    (
        {"conversations": [{"from": "human", "value": "q"}, {**CALLED, "loss": False}, CALLED, GPT]},
        "calls of one turn say different things of their training",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "text", "content": "q"}]}]},
        "a part of a message has no text",
    ),
    ({"messages": [{**SAID[1], "loss_scale": float("nan")}]}, "a message's loss_scale is no number from 0 on"),
    ({"messages": [{**SAID[1], "loss_scale": float("inf")}]}, "a message's loss_scale is no number from 0 on"),
    ({"messages": [{**SAID[1], "weight": 0.5}]}, "a message's weight is neither 0 nor 1 (loss_scale takes any)"),
    ({"messages": [{**SAID[1], "train": "no"}]}, "a message's train is neither true nor false"),
    ({"messages": []}, "messages is empty"),
    ({"messages": "["}, "messages is no JSON"),
    ({"messages": 3}, "messages is no list of messages"),
    ({"messages": ["q"]}, "messages is no list of messages"),
    ({"messages": [{"content": "q"}]}, "a message has no role"),
    ({"messages": [{"role": "robot", "content": "q"}]}, "a message has the role 'robot'"),
    ({"messages": [{"role": "user", "content": ""}]}, "a message is empty"),
    ({"messages": [{"role": "user", "content": 5}]}, "a message's content is no text"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "a message holds more than text"),
    ({"messages": [SAID[0], {"role": "assistant", "tool_calls": [{"function": {}}]}]}, "a tool call has no name"),
    ({"messages": [{**SAID[0], "loss": "no"}]}, "a message's loss is neither true nor false"),
    ({"messages": [{**SAID[1], "loss_scale": -1}]}, "a message's loss_scale is no number from 0 on"),
    ({"messages": [{**SAID[1], "reasoning_content": 3}]}, "a message's reasoning is no text"),
    ({"messages": SAID, "tools": "f"}, "tools is no JSON"),
    ({"messages": SAID, "tools": {"name": "f"}}, "tools is no list of functions"),
    ({"conversations": [{"from": "alien", "value": "q"}]}, "a message has the role 'alien'"),
    ({"conversations": [{"from": "human", "value": ""}]}, "a message is empty"),
    ({"conversations": [{"from": "function_call", "value": "f(1)"}]}, "a tool call is no JSON"),
    ({"conversations": [{"from": "function_call", "value": "{}"}]}, "a tool call has no name"),
    ({"conversations": [{"human": "q"}]}, "a pair has no assistant"),
    ({"instruction": "q", "output": ""}, "output is empty"),
    ({"instruction": "q", "output": 5}, "output is no text"),
    ({"instruction": 5, "output": "r"}, "instruction is no text"),
    ({"instruction": "q", "input": 7, "output": "r"}, "input is no text"),
    ({"instruction": "q", "output": "r", "history": "["}, "history is no JSON"),
    ({"query": "", "response": "r"}, "query is empty"),
    ({"query": " ", "response": "r"}, "query is empty"),
    ({"query": ["q"], "response": "r"}, "query is no list of messages"),
    ({"query": "q", "response": ["r"]}, "response is no text"),
    ({"query": "q", "response": "r", "history": [["q"]]}, "history is no list of pairs"),
    ({"query": "q", "response": "r", "system": 5}, "system is no text"),
    ({"text": ""}, "text is empty"),
    ({"text": "\n"}, "text is empty"),
    ({"text": 5}, "text is no text"),
    ({"text": ["a"]}, "text is no text"),
    ({"content": {}}, "content is no text"),
    ({"prompt": ""}, "prompt is empty"),
    ({"prompt": 5}, "prompt is no text"),
    ({"prompt": []}, "prompt is empty"),
    ({"prompt": [{"role": "user"}]}, "a message is empty"),
    ({"prompt": "q", "tools": 5}, "tools is no list of functions"),
    ({**PAIR, "rejected": "good"}, "chosen and rejected are the same"),
    ({**PAIR, "chosen": ""}, "chosen is empty"),
    ({**PAIR, "prompt": 5}, "prompt is no text"),
    ({"chosen": "a", "rejected": "b"}, "the question is missing"),
    ({"chosen": SAID, "rejected": SAID[:1]}, "rejected does not end with an assistant turn"),
    ({"chosen": [{"role": "user", "content": "q"}], "rejected": SAID}, "chosen does not end with an assistant turn"),
    ({"messages": SAID, "rejected_response": 5}, "rejected_response is no text"),
    ({"messages": SAID[:1], "label": True}, "the conversation does not end with an assistant turn"),
    ({"messages": [], "label": True}, "messages is empty"),
    ({"prompt": "q", "completion": "", "label": True}, "completion is empty"),
    ({"prompt": "", "completion": "r", "label": True}, "prompt is empty"),
    ({"prompt": "q", "completion": 5, "label": True}, "completion is no text"),
]


@pytest.mark.parametrize(("row", "reason"), BAD, ids=[f"{i}-{reason}" for i, (_, reason) in enumerate(BAD)])
def test_a_broken_row_is_told_by_its_reason(row: dict[str, Any], reason: str) -> None:
    """The same words for all rows of a kind, so that they can be counted."""
    with pytest.raises(BadRow) as told:
        read(row)
    assert told.value.reason == reason


UNCLEAR = [
    {"question": "a", "prompt": "b", "answer": "c"},
    {"question": "a", "answer": "b", "solution": "c"},
    {"instruction": "a", "prompt": "b", "output": "c"},
    {"query": "a", "response": "b", "system": "c", "system_prompt": "d"},
]


@pytest.mark.parametrize("row", UNCLEAR, ids=lambda row: "-".join(row))
def test_two_columns_for_one_role_ask_which(row: dict[str, Any]) -> None:
    """Never a guess."""
    with pytest.raises(Unclear, match=r"columns \w+ and \w+ could .*Say which: columns: \{"):
        read(row)
