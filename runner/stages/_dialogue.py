"""What a person's lines mean in a chat: questions, or commands that change the conversation."""

import time
from collections.abc import Callable

from runner.core import schema
from runner.core.errors import RunnerError
from runner.core.types import Completion
from runner.data.render import without_modes
from runner.stages._conversation import Conversation
from runner.stages._screen import Screen

HELP = """\
clear                     forget the conversation
exit, quit, Ctrl-D        leave
Ctrl-C                    stop the answer
/system TEXT              a system prompt, and a new conversation; without a text: none
/think, /no_think         let the model think, or not, and ask what follows; /think auto: as its template has it
/set KEY VALUE            a key of sampling: /set temperature 0.2; without a value: what it is
/multi                    one message of several lines, up to a line that is /end; Ctrl-C leaves it
/help                     this"""


class Dialogue:
    """Reads lines until the input ends."""

    def __init__(self, conversation: Conversation, screen: Screen) -> None:
        self.conversation, self.screen = conversation, screen
        self.answers = 0
        self.commands: dict[str, Callable[[str], None]] = {
            "clear": self._clear,
            "/clear": self._clear,
            "/system": self._system,
            "/think": self._think,
            "/no_think": lambda rest: self._mode("off", rest),
            "/set": self._set,
            "/multi": self._multi,
            "/help": lambda rest: self.screen.note(HELP),
        }

    def talk(self) -> None:
        """Until exit, quit or the end of the input."""
        self.screen.note("Ask away. /help tells the commands.")
        while (line := self.screen.read("<<< ")) is not None:
            text = line.strip()
            if text.lower() in ("exit", "quit", "/exit", "/quit"):
                return
            if text:
                self.take(text)

    def take(self, text: str) -> None:
        """One line: a command or a question."""
        word, _, rest = text.partition(" ")
        command = self.commands.get(word.lower())
        if command is None and word.startswith("/") and word[1:].replace("_", "").isalpha():
            self.screen.complain(f"no command {word}; /help tells them.")
        elif command is None or (word.lower() == "clear" and rest):
            self.ask(text)
        else:
            try:
                command(rest.strip())
            except RunnerError as error:
                self.screen.complain(str(error))

    def ask(self, text: str) -> None:
        """Ask the model and show what it says."""
        start, count, completion = time.monotonic(), 0, None
        answer = self.conversation.ask(text)
        try:
            with self.screen.answering() as stopped:
                for piece in answer:
                    if isinstance(piece, Completion):
                        completion = piece
                        break
                    count += piece != ""
                    self.screen.show(piece)
                    if stopped():
                        break
        except RunnerError as error:
            self.screen.complain(str(error))
            return
        finally:
            answer.close()
        self._told(completion, count, time.monotonic() - start)

    def _told(self, completion: Completion | None, pieces: int, seconds: float) -> None:
        """After an answer: how fast it came, and what the person should know about it."""
        if completion is not None and completion.error:
            self.screen.complain(completion.error)
            return
        self.answers += 1
        tokens = completion.completion_tokens if completion else pieces
        notes = [f"{tokens} tokens, {tokens / max(seconds, 1e-9):.1f} tokens/s"]
        if completion is None:
            notes.append("stopped")
        elif completion.finish_reason == "length":
            most = self.conversation.sampling.max_new_tokens
            fix = f"/set max_new_tokens {2 * most}" if tokens >= most else "the context is full, clear makes room"
            notes.append(f"cut at {tokens} tokens; {fix}")
        if self.conversation.forgotten:
            notes.append(f"the oldest {self.conversation.forgotten} messages no longer fit and are forgotten")
        self.screen.note("(" + "; ".join(notes) + ")")

    def _clear(self, rest: str) -> None:
        self.conversation.clear()
        self.screen.note("(forgotten)")

    def _system(self, rest: str) -> None:
        self.conversation.set_template(system=rest or None)
        self._clear("")

    def _think(self, rest: str) -> None:
        if rest in ("on", "off", "auto"):
            self._mode(rest)
        elif rest.isalpha():  # a word alone is meant as a mode
            self.screen.complain(f"/think takes on, off or auto, or a question; not {rest}")
        else:
            self._mode("on", rest)

    def _mode(self, mode: str, question: str = "") -> None:
        """From now on; what else stands on the line is asked in it."""
        self.conversation.set_template(thinking=mode)
        idle = without_modes(self.conversation.engine.tokenizer, mode)
        self.screen.note(f"(thinking: {mode}" + ("; this model's chat template has no modes)" if idle else ")"))
        if question:
            self.ask(question)

    def _set(self, rest: str) -> None:
        name, _, value = rest.partition(" ")
        if name and (value or name not in schema.plain(self.conversation.sampling)):
            self.conversation.set_sampling(name, value)
        held = schema.plain(self.conversation.sampling)
        self.screen.note("\n".join(f"({key}: {held[key]})" for key in ([name] if name else held)))

    def _multi(self, rest: str) -> None:
        lines = [rest] if rest else []
        try:
            while (line := self.screen.read("... ", on=False)) is not None and line.strip() != "/end":
                lines.append(line)
        except KeyboardInterrupt:
            self.screen.note("(not asked)")
            return
        if any(lines):
            self.ask("\n".join(lines))
