"""What a row becomes before it is tokenized: texts, and the weight of each stretch that is trained.

Rules speak about spans of text here; tokens come later. Rows that cannot be trained on come out as `Dropped`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from runner.core import thoughts
from runner.core.specs import Template
from runner.core.types import Example, Message, Span
from runner.data import context
from runner.data.control import ControlTokens, Guarded
from runner.data.dialect import EMPTY_THOUGHT, Dialect, dialect
from runner.data.dropped import Dropped
from runner.data.judged import Rows, sides
from runner.data.render import Refused, mappings, with_system
from runner.data.rules import Rules
from runner.data.shapes import Shapes
from runner.data.turns import Conversation, Layout, Turn, faithful, together

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Draft:
    """One sequence as text. trained: (start, end, weight) in characters, in order, weights above 0.

    last: index of the last message in it. answers: where the inference prompts of its trained turns end.
    values: what is known of the whole sequence.
    """

    text: Guarded
    trained: tuple[tuple[int, int, float], ...]
    last: int = 0
    answers: tuple[int, ...] = ()
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Drafter:
    """Makes drafts of rows for one tokenizer, template and set of rules. notes: what is worth telling, counted.

    rows: what a row is read as.
    """

    tokenizer: "PreTrainedTokenizerBase"
    template: Template
    rules: Rules
    notes: Counter[str] = field(default_factory=Counter)
    rows: Rows = "conversations"

    @cached_property
    def dialect(self) -> Dialect:
        """How the chat template writes; not asked for while there is only plain text."""
        return dialect(self.tokenizer)

    def __post_init__(self) -> None:
        """Look at the tokenizer now: later it may be at work in a thread."""
        ids = self.tokenizer("")["input_ids"]
        begins = bool(ids) and ids[0] == self.tokenizer.bos_token_id
        self.bounds = (self.tokenizer.bos_token if begins else "", self.tokenizer.eos_token or "")

    @cached_property
    def shapes(self) -> Shapes:
        """Renderings that many rows share."""
        return Shapes(self.dialect, self.template.turns)

    @cached_property
    def control(self) -> ControlTokens:
        """The tokens that a row's words must not become."""
        return ControlTokens(self.tokenizer)

    def draft(self, example: Example) -> list[Draft] | Dropped:
        """The sequences of a row, or why there are none. A judged answer is one sequence."""
        held = sides(example, self.rows)
        if isinstance(held, Dropped):
            return held
        made: list[Draft] = []
        for side in held:
            drafts = self._drafts(side.example)
            if isinstance(drafts, Dropped):
                return drafts
            if side.values and len(drafts) > 1:
                reason = "its answer takes several sequences (template.turns: last or all makes it one)"
                return Dropped(example.source, example.row, reason)
            made += [_judged(draft, side.values) for draft in drafts] if side.values else drafts
        if len(held) == 2 and _question(made[0]) != _question(made[1]):
            self.notes["pairs whose answers come after different prompts"] += 1
        return made

    def _drafts(self, example: Example) -> list[Draft] | Dropped:
        if example.text is not None:
            return self._plain(example.text)
        messages = self._prepared(example.messages)
        if not any(message.role == "assistant" for message in messages):
            return Dropped(example.source, example.row, "it has no assistant turn")
        try:
            drafts = self._conversation(messages, example.tools)
        except Refused as error:
            return Dropped(example.source, example.row, "the chat template refuses it", error.reason)
        if not drafts:
            return Dropped(example.source, example.row, "nothing in it is trained: every weight is 0")
        return drafts

    def _prepared(self, messages: Sequence[Message]) -> list[Message]:
        made = with_system(messages, self.template)
        return made if self.template.empty_think == "keep" else [self._empty_think(message) for message in made]

    def _empty_think(self, message: Message) -> Message:
        """`empty_think: add` puts an empty block before an answer without thoughts, `strip` takes one away."""
        if message.role != "assistant":
            return message
        thought = message.reasoning if message.reasoning is not None else thoughts.split(message.content)[0]
        if self.template.empty_think == "add" and thought is None:
            return replace(message, content=f"<think>\n\n</think>\n\n{message.content}")
        if self.template.empty_think == "strip" and thought is not None and not thought.strip():
            return replace(message, reasoning=None, content=EMPTY_THOUGHT.sub("", message.content, count=1))
        return message

    def _conversation(self, messages: Sequence[Message], tools: Sequence[Any]) -> list[Draft]:
        said = mappings(self.tokenizer, messages, tools)
        plane = self.control.plane(said) if self.control.spelled([said, tools]) else None
        if plane is not None:
            self.notes["rows that spell a control token, kept as text"] += 1
            said, tools = self.control.hide(said, plane), self.control.hide(tools, plane)
        weigher = Weigher(self.rules, messages, self.control, plane)
        conversation = Conversation(self.dialect, said, tools)
        if plane is None and not tools and not self.rules.context:
            layouts = self.shapes.layouts(messages, said)
            turns = [turn for layout in layouts or () for turn in layout.turns]
            if layouts and all(map(weigher.turn, turns)):
                self._note(conversation, turns)
                return [weigher.draft(conversation, layout, None) for layout in layouts]
        wanted = conversation.assistants[-1:] if self.template.turns == "last" else conversation.assistants
        turns = [conversation.turn(index) for index in wanted if messages[index].loss is not False]
        turns = [turn for turn in turns if weigher.turn(turn)]
        self._note(conversation, turns)
        if not turns:
            return []
        layouts = [together(conversation, turns)] if self.template.turns == "all" else faithful(turns)
        self._note_tools(messages, tools, layouts)
        before = [None, *(layout.last for layout in layouts)]
        return [weigher.draft(conversation, *pair) for pair in zip(layouts, before, strict=False)]

    def _note(self, conversation: Conversation, turns: Sequence[Turn]) -> None:
        for turn in turns:
            content = conversation.messages[turn.index]["content"]
            broken = content.lstrip().startswith("<think>") and "</think>" not in content
            thinks = "think" if conversation.thought(turn.index) else "do not think"
            kind = "break off inside a thought" if broken else thinks
            self.notes[f"trained turns that {kind}"] += 1
            if turn.composed:
                self.notes["trained turns without thoughts in the template's rendering, written after the prompt"] += 1

    def _note_tools(self, messages: Sequence[Message], tools: Sequence[Any], layouts: Sequence[Layout]) -> None:
        """What a template without tools leaves out; of a trained turn that is refused (turns.py)."""
        offered, called = _names(tools), _names([call for message in messages for call in message.tool_calls])
        text = "".join(layout.text for layout in layouts) if offered or called else ""
        if offered and not any(name in text for name in offered):
            self.notes["rows whose tools the chat template does not show"] += 1
        if any(name not in text for name in called):
            self.notes["rows with tool calls that the chat template leaves out"] += 1

    def _plain(self, text: str) -> list[Draft]:
        """Plain text, with the tokens that begin and end a document for this tokenizer."""
        start, end = self.bounds
        guarded = Guarded(text, tuple(found.span() for found in self.control.pattern.finditer(text)))
        shift = len(start)
        places = tuple((first + shift, last + shift) for first, last in guarded.places)
        whole = f"{start}{text}{end}"
        trained = _stretches(whole, 0, self.rules.weigh(Span(whole, "assistant", 0, True)))
        return [Draft(Guarded(whole, places), trained)]


def _names(functions: Sequence[Any]) -> list[str]:
    """Of functions, or of calls of them."""
    inner = (held.get("function", held) for held in functions if isinstance(held, Mapping))
    return [str(held["name"]) for held in inner if isinstance(held, Mapping) and held.get("name")]


def _judged(draft: Draft, values: Mapping[str, float]) -> Draft:
    """With what is known of it, and nothing trained before the answer."""
    answer = tuple(stretch for stretch in draft.trained if stretch[0] >= draft.answers[0])
    return replace(draft, trained=answer, values=values)


def _question(draft: Draft) -> str:
    """What stands before the first trained turn."""
    return draft.text.text[: draft.answers[0]] if draft.answers else ""


@dataclass(frozen=True)
class Weigher:
    """Asks the rules about the spans of one conversation. plane: where private characters stand for control tokens."""

    rules: Rules
    messages: Sequence[Message]
    control: ControlTokens
    plane: int | None
    _turns: dict[Turn, tuple[tuple[int, int, float], ...]] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def asked(self) -> int:
        """The last user message."""
        return max((i for i, message in enumerate(self.messages) if message.role == "user"), default=-1)

    def shown(self, text: str) -> Guarded:
        """The text as the row has it."""
        return Guarded(text) if self.plane is None else self.control.show(text, self.plane)

    def turn(self, turn: Turn) -> tuple[tuple[int, int, float], ...]:
        """The trained stretches of an assistant turn; its end-of-turn token is trained where anything before it is."""
        if turn not in self._turns:
            said = self._weighed(turn.text, turn.start, turn.stop, "assistant", turn.index)
            untrained = turn.start < turn.stop and not said
            end = () if untrained else self._weighed(turn.text, turn.stop, turn.end, "assistant", turn.index)
            self._turns[turn] = said + end
        return self._turns[turn]

    def draft(self, conversation: Conversation, layout: Layout, previous: int | None) -> Draft:
        """A layout with the weights of all its spans."""
        trained = [stretch for turn in layout.turns for stretch in self.turn(turn)]
        for turn in layout.turns:
            trained += self._weighed(layout.text, turn.end, turn.after, "template", turn.index)
        own = [i for i, message in enumerate(self.messages) if message.loss and message.role != "assistant"]
        if self.rules.context or own:
            stretches = context.stretches(conversation, layout, previous)
            first = -1 if previous is None else previous
            found = {held.turn for held in stretches}
            lost = [i for i in own if first < i < layout.last and self.messages[i].content and i not in found]
            if lost:
                raise Refused(f"message {lost[0]}, which says loss: true, cannot be told in the text")
            for held in stretches:
                trained += self._weighed(layout.text, held.start, held.end, held.role, held.turn)
                trained += self._end(conversation, layout.text, held)
        plain = self.plane is None
        answers = tuple(
            turn.start if plain else len(self.shown(layout.text[: turn.start]).text) for turn in layout.turns
        )
        return Draft(self.shown(layout.text), tuple(sorted(trained)), layout.last, answers)

    def _end(self, conversation: Conversation, text: str, held: context.Stretch) -> tuple[tuple[int, int, float], ...]:
        """The token that ends a message whose own `loss` trains it: a model must not learn words that never end."""
        if self.rules.context or held.turn < 0 or not self.messages[held.turn].loss:
            return ()
        end = conversation.dialect.end_of_turn(text, held.end)
        return self._weighed(text, *end, held.role, held.turn) if end and not text[held.end : end[0]].strip() else ()

    def _weighed(self, text: str, start: int, end: int, role: str, turn: int) -> tuple[tuple[int, int, float], ...]:
        if start == end:
            return ()
        plain = self.plane is None
        said = text[start:end] if plain else self.shown(text[start:end]).text
        message = self.messages[turn] if turn >= 0 else None
        loss, scale = (message.loss, message.loss_scale) if message else (None, None)
        if role == "template":
            loss, scale = (False if loss is False else None), None
        weight = 1.0 if scale is None else scale
        weights = self.rules.weigh(Span(said, role, turn, turn > self.asked, weight), loss, scale)
        return _stretches(said, start if plain else len(self.shown(text[:start]).text), weights)


def _stretches(text: str, start: int, weights: Sequence[tuple[int, float]]) -> tuple[tuple[int, int, float], ...]:
    """Weights of pieces as places in the whole text, those above 0."""
    made: list[tuple[int, int, float]] = []
    for count, weight in weights:
        if count and weight > 0:
            made.append((start, start + count, weight))
        start += count
    return tuple(made)
