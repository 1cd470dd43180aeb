"""What a person at a terminal is told of a chat's commands, keys and ends of answers."""

import io
from typing import Any

import pytest

from runner.backends import start
from runner.core.specs import Backend, Model, Sampling, Template
from runner.stages._conversation import Conversation
from runner.stages._dialogue import Dialogue
from runner.stages._screen import Screen
from tests.tiny import tiny_model


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The transformers backend on a tiny model."""
    model = Model(id=str(tiny_model(tmp_path_factory.mktemp("tiny"))))
    return start(Backend(name="transformers"), model, "modelscope")


class Told(Screen):
    """A terminal whose notes are kept; a line `^C` is the key."""

    def __init__(self, lines: str) -> None:
        super().__init__(io.StringIO(lines), io.StringIO(), io.StringIO())
        self.live, self.notes = True, list[str]()

    def _input(self, prompt: str) -> str:
        if not (line := self.source.readline()):
            raise EOFError
        if line == "^C\n":
            raise KeyboardInterrupt
        return line.rstrip("\n")

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_ctrl_c_leaves_a_message_of_several_lines(engine: Any) -> None:
    """Nothing is asked; it had to be sent to get out of it."""
    conversation, screen = Conversation(engine, Template(), Sampling()), Told("/multi one\ntwo\n^C\n^C\n")
    Dialogue(conversation, screen).talk()
    assert screen.notes[1:] == ["(not asked)", "Ctrl-D or exit leaves."] and not conversation.messages


def test_set_without_a_value_tells_what_is_set(engine: Any) -> None:
    """It took the value away."""
    conversation, screen = Conversation(engine, Template(), Sampling(temperature=0.5)), Told("/set temperature\n/set\n")
    Dialogue(conversation, screen).talk()
    assert screen.notes[1] == "(temperature: 0.5)" and "(top_p: None)" in screen.notes[2].splitlines()
    assert conversation.sampling.temperature == 0.5 and not screen.complaints


def test_an_answer_that_fills_the_context_is_told_so(engine: Any) -> None:
    """More max_new_tokens would not help."""
    screen = Told("hello " * 4050 + "\n")
    Dialogue(Conversation(engine, Template(), Sampling(max_new_tokens=500, temperature=0.0)), screen).talk()
    assert "; the context is full, clear makes room)" in screen.notes[1]


def test_bytes_that_are_no_text_do_not_end_a_chat(engine: Any) -> None:
    """Such as a line of a file in another encoding; the lines after it are answered."""
    source, out = io.TextIOWrapper(io.BytesIO(b"caf\xe9\nhello\n"), "utf-8", "surrogateescape"), io.StringIO()
    conversation = Conversation(engine, Template(), Sampling(max_new_tokens=2, temperature=0.0))
    Dialogue(conversation, Screen(source, out, io.StringIO())).talk()
    assert [message.content for message in conversation.messages[::2]] == ["caf\N{REPLACEMENT CHARACTER}", "hello"]
