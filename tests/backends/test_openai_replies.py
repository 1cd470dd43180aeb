"""Servers, proxies and login pages that say something else than a completion: errors of rows, not tracebacks."""

import json
from typing import Any

import pytest

from runner.core.errors import ConfigError, StageError
from runner.core.specs import Sampling, Template
from runner.core.types import Completion
from runner.stages._conversation import Conversation
from tests.backends.server import serving
from tests.backends.test_openai import HELLO, client

pytest.importorskip("openai")
CALL = '\n<tool_call>\n{"name": "f", "arguments": {%s}}\n</tool_call>'
USAGE = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}


def reply(message: Any, finish_reason: str = "stop", **keys: Any) -> str:
    """A chat completion."""
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    return json.dumps({"id": "1", "object": "x", "created": 0, "model": "robin", "choices": [choice], **keys})


def asked(says: str) -> Completion:
    """What the backend makes of a reply."""
    with serving(says={"POST": says}) as server:
        engine = client(server, retries=0)
        ((made,),) = engine.generate([engine.prompt(HELLO, Template())], Sampling())
        engine.close()
    return made


@pytest.mark.parametrize(
    ("says", "told"),
    [
        (reply({"content": "hi"}, usage=USAGE)[:60], "the server's reply is not JSON"),
        ("", "the server's reply is not JSON"),
        ("<html>log in</html>", "the server's reply is no completion: '<html>log in</html>'"),
        ("[1]", "the server's reply is no completion: '[1]'"),
        ('{"choices": []}', "the server's reply is no completion: "),
        ('{"choices": null}', "the server's reply is no completion: "),
        ('{"error": {"message": "overloaded"}}', "overloaded"),
        (reply(None), "the server's reply is no completion: "),
        (reply("hi"), "the server's reply is no completion: "),
        (reply({"content": 5}), "the server's reply is no completion: "),
        (
            reply({"content": None, "tool_calls": [{"id": "1", "function": None}]}),
            "the server's reply is no completion",
        ),
        ("[" * 100_000, "the server's reply is not JSON"),
        (reply({"content": "So the"}, "error"), "the server gave the answer up: finish_reason error"),
        (reply({"content": "So the"}, "abort"), "the server gave the answer up: finish_reason abort"),
    ],
)
def test_a_reply_that_is_no_completion_is_an_error_of_its_row(says: str, told: str) -> None:
    """It was a traceback, which the next run met again."""
    made = asked(says)
    assert made.finish_reason == "error" and told in str(made.error)


@pytest.mark.parametrize(
    ("message", "finish_reason", "text", "ended"),
    [
        ({"content": "half \ud83d"}, "stop", "half \ufffd", "stop"),  # a half of a character: no file took the row
        ({"content": ["a", {"type": "text", "text": None}]}, "stop", "a", "stop"),
        ({"content": None, "refusal": "I will not."}, "stop", "I will not.", "stop"),
        ({"content": "So the"}, "max_tokens", "So the", "length"),
        (
            {"content": "", "tool_calls": [{"function": {"name": "f", "arguments": ""}}]},
            "tool_calls",
            CALL % "",
            "stop",
        ),
        (
            {"content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]},
            "tool_calls",
            CALL % '"a": 1',
            "stop",
        ),
    ],
)
def test_answers_in_other_words(message: Any, finish_reason: str, text: str, ended: str) -> None:
    """They ended the run with a traceback, were empty, or looked whole where they were cut off."""
    made = asked(reply({"role": "assistant", **message}, finish_reason, usage=USAGE))
    assert (made.text, made.finish_reason, made.error) == (text, ended, None)


@pytest.mark.parametrize(
    "usage", [None, {"prompt_tokens": None, "completion_tokens": None}, {"completion_tokens": "1"}]
)
def test_tokens_that_a_server_does_not_count(usage: Any, capsys: pytest.CaptureFixture[str]) -> None:
    made = asked(reply({"role": "assistant", "content": [{"type": "text", "text": "hi"}]}, usage=usage))
    assert (made.text, made.finish_reason, made.prompt_tokens, made.completion_tokens) == ("hi", "stop", 0, 0)
    assert ("the server counts no tokens" in capsys.readouterr().out) == (usage is None)


def test_a_thought_that_was_cut_off_is_not_closed() -> None:
    """Otherwise an answer of nothing but half a thought looked whole."""
    message = {"role": "assistant", "content": None, "reasoning_content": "hm, so"}
    assert asked(reply(message, "length", usage=USAGE)).text == "<think>\nhm, so"
    assert asked(reply(message, "stop", usage=USAGE)).text == "<think>\nhm, so\n</think>\n\n"


@pytest.mark.parametrize(
    ("content", "text", "thought"),
    [
        ("hm, 4</think>\n\nFour", "<think>\nhm, 4</think>\n\nFour", "hm, 4"),
        ("\nhm</think>Four", "<think>\nhm</think>Four", "hm"),
        ("</think>\n\nFour", "<think>\n</think>\n\nFour", ""),
        ("<think>\nhm</think>Four", "<think>\nhm</think>Four", "hm"),
        ("It goes <think>so</think>.", "It goes <think>so</think>.", None),
    ],
)
def test_a_think_block_that_the_servers_template_opened(content: str, text: str, thought: str | None) -> None:
    """Thoughts that a server without a reasoning parser leaves in the answer were read as the answer."""
    made = asked(reply({"role": "assistant", "content": content}, usage=USAGE))
    assert (made.text, made.reasoning) == (text, thought)


def test_such_a_think_block_is_one_in_the_history_of_a_chat() -> None:
    event = {"choices": [{"index": 0, "delta": {"content": "hm, 4</think>\n\nFour"}, "finish_reason": "stop"}]}
    with serving(says={"POST": f"data: {json.dumps(event)}\n\ndata: [DONE]\n\n"}) as server:
        engine = client(server)
        talked = Conversation(engine, Template(), Sampling())
        list(talked.ask("2 + 2?"))
        engine.close()
    assert talked.messages[-1].content == "<think>\nhm, 4</think>\n\nFour"


@pytest.mark.parametrize("page", ["<html>log in</html>", '{"data": [{"id"', "[]"])
def test_an_address_that_is_no_interface_is_told(page: str) -> None:
    with serving(says={"GET": page}) as server, pytest.raises(ConfigError) as error:
        client(server)
    assert f"backend.engine.base_url: {server.url}/models gives no list of models. Is it the" in str(error.value)


@pytest.mark.parametrize(
    ("events", "told"),
    [
        ('data: {"id": "1", "choi\n\n', "the server's reply is not JSON"),
        ('data: {"choices": null}\n\n', "the server's reply is no completion"),
        ("data: [1]\n\n", "the server's reply is no completion"),
        ('data: {"choices": [{"index": 0, "delta": {"content": 5}}]}\n\n', "the server's reply is no completion"),
        ('data: {"choices": [{"index": 0, "delta": {"content": "So"}}]}\n\n', "the stream ended before the answer did"),
        ("", "the server's reply is no completion"),
        ('data: {"choices": null}\n\ndata: {"choices": [{"index": 0, "finish_reason": "stop"}]}\n\n', None),
    ],
)
def test_a_stream_that_breaks_is_an_error_of_its_answer(events: str, told: str | None) -> None:
    """Events without choices or words are passed over; a page, or half an answer, was an answer to a chat."""
    with serving(says={"POST": f"{events}data: [DONE]\n\n"}) as server:
        engine = client(server)
        *_, made = engine.stream(engine.prompt(HELLO, Template()), Sampling())
    assert made.error == told and made.text == ""


def test_a_key_that_a_server_quotes_goes_into_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it comes as a reply or as an event of a stream."""
    monkeypatch.setenv("OPENAI_API_KEY", "very-secret")
    told = json.dumps({"error": {"message": "the key very-secret may not ask this model"}})
    rows = [asked(told)]
    with serving(says={"POST": f"data: {told}\n\ndata: [DONE]\n\n"}) as server:
        engine = client(server)
        *_, last = engine.stream(engine.prompt(HELLO, Template()), Sampling())
        engine.close()
    for row in (*rows, last):
        assert isinstance(row, Completion) and "the key (key) may not ask" in str(row.error)


def test_a_key_is_told_by_no_half(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a server says was cut first, through the key."""
    monkeypatch.setenv("OPENAI_API_KEY", "very-secret")
    made = asked(json.dumps({"error": "x" * 195 + "very-secret"}))
    assert "xx(key)" in str(made.error) and "very" not in str(made.error)


def test_a_key_with_a_lines_end_is_the_key_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error that it gave told the key."""
    monkeypatch.setenv("OPENAI_API_KEY", "very-secret\n")
    with serving(key="very-secret") as server:
        client(server).close()
        monkeypatch.setenv("OPENAI_API_KEY", "very-secr\u00e9t")
        with pytest.raises(ConfigError) as error:
            client(server)
    assert str(error.value).startswith("backend.engine.key_env: the key has characters that no request can carry")


def test_a_proxy_that_cannot_be_used_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was a traceback."""
    monkeypatch.setenv("ALL_PROXY", "foo://127.0.0.1:9")
    with serving() as server, pytest.raises(StageError, match="base_url: no way to .*: Unknown scheme for proxy"):
        client(server)


def test_an_address_without_v1_is_told() -> None:
    with serving(missing=True) as server:
        engine = client(server, retries=0)
        ((made,),) = engine.generate([engine.prompt(HELLO, Template())], Sampling())
    assert str(made.error).endswith("(is backend.engine.base_url the address up to and with /v1?)")
