"""Chat with a tiny model: piped, at a terminal, and its conversation when it outgrows the context."""

import io
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pexpect
import pytest

from runner.__main__ import main
from runner.backends import start
from runner.core import schema
from runner.core.errors import ConfigError, DataError
from runner.core.specs import Backend, Model, Sampling, Template
from runner.core.types import Completion, Message
from runner.stages._conversation import Conversation
from runner.stages._dialogue import Dialogue
from runner.stages._screen import Screen
from runner.stages.chat import Chat
from tests.tiny import tiny_model

ROOT = Path(__file__).parents[2]
TALK = """
import sys
from functools import partial
from pathlib import Path
from runner.core import schema
from runner.core.job import Job
from runner.stages.chat import Chat
keys = {"model": {"id": sys.argv[1]}, "template": {}, "backend": {"name": "transformers"}}
keys["sampling"] = {"max_new_tokens": int(sys.argv[2]), "temperature": 0.0}
schema.build(Chat, keys).run(Job("chat", Path("."), Path(".")))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with a template that knows thinking."""
    return tiny_model(tmp_path_factory.mktemp("tiny"), "qwen3", "thinker")


@pytest.fixture(scope="module")
def engine(folder: Path) -> Any:
    """The transformers backend on it."""
    return start(Backend(name="transformers"), Model(id=str(folder)), "modelscope")


def talk(engine: Any, lines: str, new: int = 6, **template: Any) -> tuple[Conversation, str, str]:
    """A piped chat: the conversation afterwards, what was printed, what was complained."""
    out, errors = io.StringIO(), io.StringIO()
    conversation = Conversation(engine, Template(**template), Sampling(max_new_tokens=new, temperature=0.0))
    Dialogue(conversation, Screen(io.StringIO(lines), out, errors)).talk()
    return conversation, out.getvalue(), errors.getvalue()


def test_a_pipe_gets_the_answers_alone(engine: Any) -> None:
    """Each with a line's end; the history grows; exit leaves before the rest."""
    conversation, out, errors = talk(engine, "hello\n\nwho are you?\nexit\nthank you\n")
    assert [message.role for message in conversation.messages] == ["user", "assistant"] * 2
    answers = [message.content for message in conversation.messages if message.role == "assistant"]
    assert out == "".join(answer + ("" if answer.endswith("\n") else "\n") for answer in answers) and not errors
    assert "<<<" not in out


def test_clear_forgets(engine: Any) -> None:
    """The next answer is as to a first question; `clear` inside a sentence is a word."""
    first = talk(engine, "hello\n")[1]
    assert talk(engine, "who are you?\nclear\nhello\n")[1].endswith(first)
    assert len(talk(engine, "who are you?\nCLEAR\nhello\n")[0].messages) == 2
    assert talk(engine, "clear skies today\n")[0].messages[0].content == "clear skies today"


def test_the_response_prefix_is_shown_and_kept(engine: Any) -> None:
    """As the start of each answer, and in the history."""
    conversation, out, _ = talk(engine, "hello\n", response_prefix="Sure: ")
    assert out.startswith("Sure: ") and conversation.messages[1].content.startswith("Sure: ")


def test_commands_change_the_conversation(engine: Any) -> None:
    """System prompt, thinking, sampling, lines joined to one message."""
    conversation, out, errors = talk(
        engine, "/system Be brief.\n/no_think\n/set max_new_tokens 4\n/set top_p 0.5\n/multi first\nsecond\n/end\n"
    )
    assert not errors
    assert conversation.template.system == "Be brief." and conversation.template.thinking == "off"
    assert conversation.sampling.max_new_tokens == 4 and conversation.sampling.top_p == 0.5
    assert conversation.messages[0].content == "first\nsecond" and out.startswith("<think>\n\n</think>")
    conversation, out, _ = talk(engine, "/no_think\n/think\n/system a\n/system\nhello\n")
    assert conversation.template.thinking == "on" and conversation.template.system is None and len(out) > 1


@pytest.mark.parametrize(
    ("line", "mode", "asked"),
    [
        ("/no_think what is 2 + 2?", "off", "what is 2 + 2?"),
        ("/no_think hello", "off", "hello"),
        ("/think why is that?", "on", "why is that?"),
        ("/think why?", "on", "why?"),
        ("/think auto", "auto", None),
    ],
)
def test_a_question_behind_a_mode_is_asked_in_it(engine: Any, line: str, mode: str, asked: str | None) -> None:
    """It was swallowed, or refused as a mode."""
    conversation, out, errors = talk(engine, line + "\n")
    assert conversation.template.thinking == mode and not errors and bool(out) == bool(asked)
    assert [message.content for message in conversation.messages[:1]] == ([asked] if asked else [])


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("/set temperatur 1", "Did you mean sampling.temperature?"),
        ("/set top_p 7", "sampling.top_p"),
        ("/set top_k -3", "sampling.top_k: should be at least -1"),
        ("/set stop [a", "sampling.stop: '[a' is no value of YAML"),
        ("/set __class__", "sampling.__class__: no such key"),
        ("/set stop 2020-01-01", "sampling.stop: '2020-01-01' is neither text, number, list nor mapping"),
        ("/think perhaps", "on, off or auto"),
        ("/sytem x", "no command /sytem"),
    ],
)
def test_wrong_commands_are_told(engine: Any, line: str, sentence: str) -> None:
    """Nothing is asked."""
    conversation, out, errors = talk(engine, line + "\n")
    assert sentence in errors and not out and not conversation.messages


def test_the_chats_own_seed_decides_and_one_answer_is_given(engine: Any) -> None:
    """sampling.seed was not heard, and sampling.n stopped every answer of a greedy model."""
    hot = "/set temperature 3\n/set max_new_tokens 12\n"
    said = [talk(engine, f"{hot}/set seed {seed}\nhello\n")[1] for seed in (1, 2, 1)]
    assert said[0] == said[2] != said[1]
    _, out, errors = talk(engine, "/set temperature null\n/set n 3\nhello\n")
    assert out and not errors


def test_what_the_engine_cannot_do_is_told_when_it_is_set(engine: Any) -> None:
    """It was taken, and changed nothing."""
    judge = partial(type(engine).check, Backend(name="transformers"))
    conversation = Conversation(engine, Template(), Sampling(), judge=judge)
    with pytest.raises(ConfigError, match=r"sampling.guided_regex: the transformers backend cannot guide answers"):
        conversation.set_sampling("guided_regex", "a+")
    assert conversation.sampling == Sampling()


def test_a_path_is_a_question(engine: Any) -> None:
    """Only words after a slash are commands."""
    assert talk(engine, "/usr/bin holds what?\n")[0].messages[0].content == "/usr/bin holds what?"


def test_the_oldest_messages_go_when_the_context_is_full(engine: Any) -> None:
    """Whole exchanges, until there is room; a question that alone is too long is not kept."""
    conversation = Conversation(engine, Template(), Sampling(max_new_tokens=2, temperature=0.0))
    for role in ("user", "assistant") * 3:
        conversation.messages.append(Message(role, "hello " * 700))
    list(conversation.ask("hello"))
    assert conversation.forgotten == 2 and len(conversation.messages) == 6
    assert conversation.messages[-2].content == "hello"
    *_, completion = conversation.ask("hello " * 5000)
    assert isinstance(completion, Completion) and completion.error and len(conversation.messages) == 6


def test_a_question_that_the_template_refuses_is_not_kept(folder: Path) -> None:
    """Nor is anything before it lost."""
    strict = start(Backend(name="transformers"), Model(id=str(folder)), "modelscope")
    strict.tokenizer.chat_template = "{{ raise_exception('none of that') if messages[-1].content == 'bad' }}hello"
    conversation = Conversation(strict, Template(), Sampling(max_new_tokens=2, temperature=0.0))
    list(conversation.ask("good"))
    with pytest.raises(DataError, match="none of that"):
        list(conversation.ask("bad"))
    assert [message.content for message in conversation.messages[::2]] == ["good"]


def test_an_answer_that_is_stopped_stays_in_the_history(engine: Any) -> None:
    """As far as it was said."""
    conversation = Conversation(engine, Template(), Sampling(max_new_tokens=50, temperature=0.0))
    answer = conversation.ask("hello")
    said = str(next(answer)) + str(next(answer))
    answer.close()  # type: ignore[attr-defined]
    assert conversation.messages[-1] == Message("assistant", said)


def test_piped_into_a_process(folder: Path) -> None:
    """Standard output holds the answer and nothing else."""
    done = subprocess.run(
        [sys.executable, "-c", TALK, str(folder), "5"],
        input="hello\n",
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert 0 < len(done.stdout) < 60 and "loading" not in done.stdout and "tokens/s" not in done.stdout


def test_nobody_reads_the_answers_any_more() -> None:
    """As under `| head`: the answer stops, nothing more is read, and that is no error."""
    reader, writer = os.pipe()
    with open(writer, "w") as out:
        screen = Screen(io.StringIO("one\ntwo\n"), out, io.StringIO())
        assert screen.read("") == "one"
        os.close(reader)
        with screen.answering() as stopped:
            screen.show("an answer")
            assert stopped()
        assert screen.read("") is None and screen.complaints == 0


def test_a_pipe_whose_line_was_not_answered_ends_with_an_error(folder: Path) -> None:
    """The other lines are answered; who reads the answers learns of it by the exit code."""
    command = [sys.executable, "-c", TALK, str(folder), "5"]
    done = subprocess.run(command, input="/sytem x\nhello\n", capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1 and "no command /sytem; /help tells them." in done.stderr and done.stdout
    assert "StageError: chat: 1 of the lines that came in were not answered, see above." in done.stderr


def test_at_a_terminal(folder: Path) -> None:
    """The prompt, an answer with its speed, Ctrl-C stops an answer, Ctrl-D leaves with exit code 0."""
    child = pexpect.spawn(
        sys.executable, ["-c", TALK, str(folder), "3000"], cwd=str(ROOT), encoding="utf-8", timeout=60
    )
    child.expect("<<< ")
    child.sendline("/set max_new_tokens 3")
    child.expect("<<< ")
    child.sendline("hello")
    child.expect(r"3 tokens, [\d.]+ tokens/s")
    child.expect("<<< ")
    child.sendline("/set max_new_tokens 3000")
    child.expect("<<< ")
    child.sendline("hello")
    child.expect(".{20}")
    child.sendintr()
    child.expect("stopped")
    child.expect("<<< ")
    for _ in range(20):  # at once, and again and again
        child.sendintr()
        child.expect("Ctrl-D or exit leaves")
        child.expect("<<< ")
    child.sendeof()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


EARLY = """
import signal, sys, threading, time
from runner.stages._screen import Screen
screen = Screen(sys.stdin, sys.stdout, sys.stderr)
def press():  # wakes nobody who waits for a line, as one that came just before
    time.sleep(0.5)
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)
threading.Thread(target=press, daemon=True).start()
with screen.listening():
    print("READ", screen.read("<<< "), flush=True)
    signal.raise_signal(signal.SIGINT)  # between two lines
    print("READ", screen.read("<<< "), flush=True)
"""


def test_no_ctrl_c_is_lost() -> None:
    """Neither one just before a line is waited for nor one between two of them; and none ends the chat."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = pexpect.spawn(sys.executable, ["-c", EARLY], env=environment, encoding="utf-8", timeout=10)
    child.expect("<<< ")
    child.expect("Ctrl-D or exit leaves")
    child.sendline("one")
    child.expect("READ one.*Ctrl-D or exit leaves")
    child.sendline("two")
    child.expect("READ two")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_ctrl_c_while_the_model_is_loaded(folder: Path, tmp_path: Path) -> None:
    """By the command of a user: out at once, with one sentence."""
    words = ["-m", "runner", "+recipe=chat", f"model={folder}", "backend=transformers"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = pexpect.spawn(sys.executable, words, cwd=str(tmp_path), env=environment, encoding="utf-8", timeout=30)
    child.expect("loading .* \\.\\.\\.")
    time.sleep(0.3)  # it is at the libraries
    begun = time.monotonic()
    child.sendintr()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130 and time.monotonic() - begun < 2
    assert "Traceback" not in child.before and child.before.count("stopped") == 1 and "chat: stopped." in child.before


GROUP = """
import os, signal, subprocess, sys
if len(sys.argv) < 2:  # as the runner starts a stage that owns the terminal
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(subprocess.run([sys.executable, "-c", os.environ["GROUP"], "worker"]).returncode)
import multiprocessing, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from runner.stages._foreground import alone

def engine():
    signal.signal(signal.SIGINT, lambda *_: print("ENGINE HIT", flush=True))
    time.sleep(60)

process = multiprocessing.get_context("fork").Process(target=engine, daemon=True)
process.start()
time.sleep(0.5)
with alone(sys.stdin):
    for _ in range(2):
        try:
            print("READY " + input("ask: "), flush=True)
        except KeyboardInterrupt:
            print("WORKER HIT", flush=True)
print("alive" if process.is_alive() else "dead", os.tcgetpgrp(0) == os.getpgrp(), flush=True)
"""


def test_ctrl_c_leaves_the_engines_processes_alone() -> None:
    """They are in the terminal's foreground group too; afterwards the group is as it was."""
    environment = {**os.environ, "GROUP": GROUP, "PYTHONPATH": str(ROOT)}
    child = pexpect.spawn(sys.executable, ["-c", GROUP], env=environment, encoding="utf-8", timeout=30)
    child.expect("ask: ")
    child.sendintr()
    child.expect("WORKER HIT")
    child.expect("ask: ")
    child.sendline("more")
    child.expect("READY more")
    child.expect("alive True")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0 and "ENGINE" not in child.before


def test_every_command_at_a_terminal(folder: Path, tmp_path: Path) -> None:
    """By the command of a user: help, thoughts dimmed, settings, several lines, arrow keys, a full context, leaving."""
    words = ["-m", "runner", "+recipe=chat", f"model={folder}", "backend=transformers", "sampling.temperature=0.0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "INPUTRC": "/dev/null"}
    environment.pop("NO_COLOR", None)
    child = pexpect.spawn(sys.executable, words, cwd=str(tmp_path), env=environment, encoding="utf-8", timeout=90)

    def tell(line: str, *expected: str) -> None:
        child.expect("<<< ")
        child.sendline(line)
        for words in expected:
            child.expect(words)

    tell("/help", "Ctrl-C +stop the answer", "/set KEY VALUE")
    tell("/set max_new_tokens 4", "max_new_tokens: 4")
    tell("/set temperature 0.2", "temperature: 0.2")
    tell("/set temperatur 1", "Did you mean sampling.temperature")
    tell("/system Be brief.", "forgotten")
    tell("/no_think", "thinking: off")
    tell("hello", r"\x1b\[2m<think>", r"tokens/s")
    tell("/think", "thinking: on")
    tell("/multi", r"\.\.\. ")
    child.sendline("one")
    child.expect(r"\.\.\. ")
    child.sendline("two")
    child.expect(r"\.\.\. ")
    child.sendline("/end")
    child.expect(r"4 tokens, [\d.]+ tokens/s; cut at 4 tokens; /set max_new_tokens 8")
    tell("clear", "forgotten")
    child.expect("<<< ")
    child.send("\x1b[A\x1b[A\x1b[A")  # up, up, up: over `clear`, `/end` and `two`
    child.expect("two")
    child.send("\x15")
    child.sendline("hello " * 30)
    child.expect("tokens/s")
    tell("exit")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_a_model_that_only_the_chat_finds_missing_is_the_users_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A run that has made none yet: told once, by the chat itself, and no log is named, as there is none."""
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "plan.json").write_text('{"stages": [{"name": "train", "kind": "sft"}]}')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert main(["+recipe=chat", "model=begun"]) == 2
    told = capfd.readouterr().err
    assert told.count("begun") == 1 and "log.txt" not in told
    assert told.endswith("chat: ended with exit code 2, see above.\n")


def test_check_refuses_a_model_that_is_not_there() -> None:
    """Before anything is loaded."""
    stage = schema.build(Chat, {"model": {"id": "./no/such/folder"}, "template": {}, "sampling": {}, "backend": {}})
    with pytest.raises(ConfigError, match=r"stages.chat.model.id: no folder"):
        stage.check([], "stages.chat")
