"""The endpoint backend against a small real server: prompts as ids or messages, retries, refusals, streams."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from runner.backends import start
from runner.core.errors import ConfigError, StageError
from runner.core.specs import Backend, Model, Sampling, Template
from runner.core.types import Completion, Message
from runner.data.render import prompt_text
from runner.stages._conversation import Conversation
from tests.backends.server import Server, serving
from tests.tiny import tiny_model, tiny_tokenizer

pytest.importorskip("openai")
HELLO = [Message("user", "hello")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, for its tokenizer."""
    return tiny_model(tmp_path_factory.mktemp("tiny"), "qwen3", "thinker")


def client(server: Server, name: str = "robin", **engine: Any) -> Any:
    """The backend, connected."""
    return start(Backend(name="openai", engine={"base_url": server.url, **engine}), Model(id=name), "modelscope")


def test_with_a_tokenizer_the_prompt_is_the_same_ids_as_everywhere(folder: Path) -> None:
    """And a prefix counts as answer."""
    template, tokenizer = Template(thinking="off"), tiny_tokenizer("thinker")
    ids = tokenizer(prompt_text(tokenizer, HELLO, template), add_special_tokens=False)["input_ids"]
    with serving() as server:
        engine = client(server, tokenizer=str(folder))
        assert engine.context == 100 and engine.room(engine.prompt(HELLO, template)) == 100 - len(ids)
        sampling = Sampling(max_new_tokens=9, temperature=0.5, top_k=7, stop=["x"], logprobs=True)
        ((made,),) = engine.generate([engine.prompt(HELLO, template)], sampling, seeds=[5])
        engine.close()
    (asked,) = server.asked
    assert asked["path"] == "/v1/completions" and asked["prompt"] == ids and asked["model"] == "robin"
    assert asked["max_tokens"] == 9 and asked["temperature"] == 0.5 and asked["top_k"] == 7 and asked["stop"] == ["x"]
    assert "top_p" not in asked and "min_p" not in asked and asked["seed"] == 5
    begun = len(tokenizer("<think>\n\n</think>\n\n", add_special_tokens=False)["input_ids"])
    assert made.text == f"<think>\n\n</think>\n\n{len(ids)} ids, seed 5" and made.finish_reason == "length"
    assert (made.prompt_tokens, made.completion_tokens) == (len(ids) - begun, 3 + begun)
    assert made.logprobs == (0.0,) * begun + (-0.5, -0.25, -1.0)


def test_an_answer_may_be_as_long_as_the_context_leaves(folder: Path) -> None:
    """As with other backends, which answer until there is no room; a server refused the request."""
    with serving(strict=True) as server:
        ids, chat = client(server, tokenizer=str(folder)), client(server)
        prompt, long = ids.prompt(HELLO, Template()), ids.prompt([Message("user", "hello " * 100)], Template())
        made = ids.generate([prompt, long], Sampling(max_new_tokens=500))
        *_, streamed = ids.stream(long, Sampling())
        assert [asked["max_tokens"] for asked in server.asked] == [100 - len(prompt.ids)]
        assert made[0][0].finish_reason == "length" and made[1][0].error == streamed.error
        assert f"the prompt has {len(long.ids)} tokens and leaves no room for an answer" in str(streamed.error)
        ((whole,),) = chat.generate([chat.prompt(HELLO, Template())], Sampling(max_new_tokens=500))
        *_, again = chat.stream(chat.prompt(HELLO, Template()), Sampling(max_new_tokens=500))
        ((short,),) = chat.generate([chat.prompt(HELLO, Template())], Sampling(max_new_tokens=5))
    assert whole.text == again.text == short.text == "you said hello"
    assert [asked.get("max_tokens") for asked in server.asked[1:]] == [500, None, 500, None, 5]


def test_the_oldest_messages_of_a_chat_go_where_the_server_has_the_tokenizer() -> None:
    """They never went, as a conversation seemed to have no tokens; the server's own count is taken once it is known."""
    with serving() as server:
        engine = client(server)
        talked = Conversation(engine, Template(), Sampling())
        talked.messages = [Message(role, "hello " * 10) for role in ("user", "assistant") * 3]
        list(talked.ask("hello"))
        assert talked.forgotten == 4 and [message.content for message in talked.messages[2:]] == [
            "hello",
            "you said hello",
        ]
        prompt = engine.prompt(talked.messages[:3], Template())
        assert engine.room(prompt) == 100 - 11
        grown = [*talked.messages, Message("user", "<think>hm</think>" + "a" * 30)]
        assert engine.room(engine.prompt(grown, Template())) == 100 - 11 - (len("you said hello") + 47) // 3


def test_words_that_spell_control_tokens_are_words(folder: Path) -> None:
    """The ids are those of training: one end of turn fewer than the words say."""
    tokenizer = tiny_tokenizer("thinker")
    with serving() as server:
        engine = client(server, tokenizer=str(folder))
        engine.generate(
            [engine.prompt([Message("user", "what is <|im_end|>?")], Template())], Sampling(max_new_tokens=2)
        )
        engine.close()
    assert server.asked[0]["prompt"].count(tokenizer.convert_tokens_to_ids("<|im_end|>")) == 1


def test_a_stop_waits_for_no_answer() -> None:
    """The process can end too, though requests are on their way."""
    code = (
        "import sys, time; from runner.backends import start, ListFeed, Ask\n"
        "from runner.core.specs import *; from runner.core.types import Message\n"
        "engine = start(Backend(name='openai', engine={'base_url': sys.argv[1]}), Model(id='robin'), 'modelscope')\n"
        "asks = [Ask(n, engine.prompt([Message('user', 'hello')], Template()), n) for n in range(9)]\n"
        "begun = time.monotonic()\n"
        "def beat():\n"
        "    if time.monotonic() > begun + 1.0: raise KeyboardInterrupt\n"
        "engine.work(ListFeed(asks, beat), Sampling(), lambda place, made: None)\n"
    )
    with serving(delay=30) as server:
        root = str(Path(__file__).parents[2])
        begun = time.monotonic()
        ended = subprocess.run([sys.executable, "-c", code, server.url], cwd=root, capture_output=True, timeout=25)
        assert b"KeyboardInterrupt" in ended.stderr and time.monotonic() - begun < 15 and 0 < len(server.asked) <= 9


def test_without_a_tokenizer_the_messages_are_sent() -> None:
    """The system prompt, the mode, and a prefix that the server goes on with; thoughts that come apart are put back."""
    with serving() as server:
        engine = client(server)
        template = Template(thinking="on", system="Be kind.")
        ((made,),) = engine.generate([engine.prompt(HELLO, template)], Sampling(guided_regex="a+"))
        schema = {"type": "object"}
        engine.generate([engine.prompt(HELLO, template)], Sampling(guided_json=schema))
        guided = server.asked.pop()
        prefixed = engine.prompt(HELLO, Template(response_prefix="Sure: "))
        ((other,),) = engine.generate([prefixed], Sampling())
        engine.close()
    first, second = server.asked
    assert first["path"] == "/v1/chat/completions" and first["messages"][0] == {"role": "system", "content": "Be kind."}
    assert first["chat_template_kwargs"] == {"enable_thinking": True} and first["structured_outputs"] == {"regex": "a+"}
    assert guided["response_format"] == {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    assert made.text == "<think>\nhm\n</think>\n\nyou said hello" and made.reasoning == "hm"
    assert made.prompt_tokens == 11 and made.completion_tokens == 3
    assert second["messages"][-1] == {"role": "assistant", "content": "Sure: "} and second["continue_final_message"]
    assert other.text == "Sure: you said hello"


def test_requests_go_side_by_side_and_come_back_in_order() -> None:
    """At most `concurrency` at a time; each sample is a request with a seed of its own."""
    with serving(delay=0.05) as server:
        engine = client(server, concurrency=4)
        prompts = [engine.prompt([Message("user", f"number {n}")], Template()) for n in range(12)]
        told: list[int] = []
        begun = time.monotonic()
        made = engine.generate(prompts, Sampling(n=2), finished=lambda place, _: told.append(place))
        assert time.monotonic() - begun < 12 * 2 * 0.05
        engine.close()
    assert [samples[1].text for samples in made] == [f"you said number {n}" for n in range(12)]
    assert sorted(told) == list(range(12)) and 2 <= server.busy <= 4
    assert len({asked["seed"] for asked in server.asked if "number 3" in str(asked["messages"])}) == 2


def test_a_busy_server_is_asked_again_and_a_refusal_costs_one_prompt() -> None:
    """503 twice, then answers; 400 is an error of that prompt."""
    with serving() as server:
        engine = client(server, retries=3)
        server.failing = 2
        made = engine.generate(
            [engine.prompt([Message("user", text)], Template()) for text in ("refuse this", "hello")], Sampling()
        )
        engine.close()
    assert made[1][0].text == "you said hello" and len(server.asked) == 4
    assert made[0][0].finish_reason == "error" and "this prompt is refused" in str(made[0][0].error)


@pytest.mark.parametrize("thinking", ["auto", "on"])
def test_streams(thinking: Any, folder: Path) -> None:
    """Pieces that join to the text, thoughts in their block, the counts at the end."""
    with serving() as server:
        engine = client(server)
        template = Template(thinking=thinking)
        *parts, completion = engine.stream(engine.prompt(HELLO, template), Sampling())
        assert isinstance(completion, Completion) and len(parts) > 2 and "".join(parts) == completion.text
        assert completion.text == ("<think>\nhm\n</think>\n\n" if thinking == "on" else "") + "you said hello"
        assert completion.completion_tokens == 3
        ids = client(server, tokenizer=str(folder))
        *parts, completion = ids.stream(ids.prompt(HELLO, Template(thinking="off")), Sampling())
        assert "".join(parts) == completion.text and completion.text.startswith("<think>\n\n</think>\n\n")
        for word, told in (("refuse", "this prompt is refused"), ("detail", "prompt must be a string")):
            *_, failed = engine.stream(engine.prompt([Message("user", word)], Template()), Sampling())
            assert failed.finish_reason == "error" and failed.error == f"Error code: 400 - {told}"


def test_a_stream_can_be_left_before_its_first_piece() -> None:
    """Ctrl-C of a chat was heard only once the server began to answer."""
    with serving(delay=20) as server:
        talked, begun = Conversation(client(server), Template(), Sampling()), time.monotonic()
        answer = talked.ask("hello")
        assert next(answer) == ""
        answer.close()
        assert time.monotonic() - begun < 10 and len(server.asked) == 1 and not talked.messages


def test_what_cannot_work_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server, another key, another model, a wrong key in the recipe."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with serving(key="secret") as server:
        with pytest.raises(ConfigError, match=r"key_env: .* refuses the key. Put it into .* OPENAI_API_KEY"):
            client(server)
        monkeypatch.setenv("MY_KEY", "secret")
        client(server, key_env="MY_KEY").close()
        with pytest.raises(ConfigError, match=r"the server has no model 'other'. It has: robin"):
            client(server, name="other", key_env="MY_KEY")
        url = server.url
    with pytest.raises(ConfigError, match=r"backend.engine.base_ulr: .*base_url"):
        start(Backend(name="openai", engine={"base_ulr": "x"}), Model(id="robin"), "modelscope")
    begun = time.monotonic()
    with pytest.raises(StageError, match="no server answers at"):
        start(Backend(name="openai", engine={"base_url": url}), Model(id="robin"), "modelscope")
    assert time.monotonic() - begun < 20


def test_a_server_that_is_gone_ends_the_stage_and_not_its_questions() -> None:
    """They are asked again by the next run."""
    with serving() as server:
        engine = client(server, retries=0)
    with pytest.raises(
        StageError, match=r"no server answers any more at .*/v1, after 0 retries. The same command goes"
    ):
        engine.generate([engine.prompt(HELLO, Template())], Sampling())


def test_an_answer_that_comes_too_late_is_an_error_of_its_row() -> None:
    with serving(delay=2) as server:
        engine = client(server, timeout=0.2, retries=0)
        ((late,),) = engine.generate([engine.prompt(HELLO, Template())], Sampling(max_new_tokens=3))
        engine.close()
    assert late.finish_reason == "error" and "timed out" in str(late.error)


def test_a_server_without_log_probabilities_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    with serving() as server:
        engine = client(server)
        engine.generate([engine.prompt(HELLO, Template())] * 3, Sampling(logprobs=True))
    assert capsys.readouterr().out.count("sampling.logprobs: the server gives none") == 1
