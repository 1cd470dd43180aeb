"""Texts that a chat template may copy and ask a few questions about, so that what it renders once holds for others too.

A template is rendered with `Opaque` texts in place of a row's words. What it asks of them (does it hold `</think>`?
does it start with a blank?) is answered as for a text that holds nothing asked for, and written down as what must be
true of a row's words for the same rendering. Whatever else it does with them raises `Uncertain`: lengths, letters,
JSON, comparing one with another. Every operation is one of the two, none is let through unseen.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

FIRST, SLOTS = 0xE100, 2048  # private characters that stand for a row's words
LETTERS = f"[{chr(FIRST)}-{chr(FIRST + SLOTS - 1)}]"


class Uncertain(Exception):
    """What a template does with a text depends on more than can be told beforehand."""


@dataclass
class Asked:
    """What must be true of a row's words. parts: texts that they hold no piece of at their ends, nor as a whole.
    stripped: characters (None: blanks) that they neither begin nor end with. firsts: characters they do not begin with.
    """

    parts: set[str] = field(default_factory=set)
    stripped: set[str | None] = field(default_factory=set)
    firsts: set[str] = field(default_factory=set)

    def fits(self) -> Callable[[str], bool]:
        """A test for words, which must not be empty."""
        parts = tuple(self.parts)
        starts = (*self.firsts, *{part[n:] for part in parts for n in range(1, len(part))})
        ends = tuple({part[:n] for part in parts for n in range(1, len(part))})
        longest, stripped = max(map(len, parts), default=0), tuple(self.stripped)

        def fit(words: str) -> bool:
            if any(part in words for part in parts) or words.startswith(starts) or words.endswith(ends):
                return False
            if len(words) < longest and any(words in part for part in parts):
                return False
            return all(words.strip(letters) == words for letters in stripped)

        return fit


class Opaque(str):
    """A text with private characters for words that nothing is known about. asked: where questions are written down."""

    asked: Asked

    def __str__(self) -> str:
        return self

    def __bool__(self) -> bool:
        return str.__len__(self) > 0

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Opaque):
            raise Uncertain
        if isinstance(other, str) and other:
            self.asked.parts.add(other)
        return isinstance(other, str) and str.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __add__(self, other: str) -> "Opaque":
        return opaque(str.__add__(self, _text(other)), self.asked)

    def __radd__(self, other: str) -> "Opaque":
        return opaque(str.__add__(_text(other), str.__add__("", self)), self.asked)


def opaque(text: str, asked: Asked) -> Opaque:
    """A text that holds words nothing is known about."""
    made = str.__new__(Opaque, text)
    made.asked = asked
    return made


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Uncertain
    return value


def _about_a_part(name: str) -> Callable[..., Any]:
    """A method that is given a piece of text to look for."""

    def method(self: Opaque, part: Any, *more: Any) -> Any:
        if type(part) is not str or not part or any(isinstance(each, Opaque) for each in more):
            raise Uncertain
        self.asked.parts.add(part)
        made = getattr(str, name)(self, part, *more)
        if isinstance(made, list | tuple):
            return [opaque(each, self.asked) for each in made]
        return opaque(made, self.asked) if isinstance(made, str) else made

    return method


def _about_ends(name: str) -> Callable[..., Any]:
    """A method that takes letters away at the ends."""

    def method(self: Opaque, letters: Any = None) -> Any:
        if letters is not None and type(letters) is not str:
            raise Uncertain
        self.asked.stripped.add(letters)
        return opaque(getattr(str, name)(self, letters), self.asked)

    return method


def _refuse(*given: Any, **more: Any) -> Any:
    raise Uncertain


PARTS = (
    "__contains__", "startswith", "endswith", "split", "rsplit", "partition", "rpartition", "replace", "removeprefix",
    "removesuffix",
)  # fmt: skip
ENDS = ("strip", "lstrip", "rstrip")
METHODS = {*PARTS, *ENDS}
PYTHON = {"__new__", "__init__", "__class__", "__doc__", "__getattribute__", "__setattr__", "__delattr__", "__dir__"}
for _name in {*dir(str), "__rmod__", "__radd__"} - set(vars(Opaque)) - PYTHON:
    if _name not in ("__init_subclass__", "__subclasshook__", "__getnewargs__", "__reduce__", "__reduce_ex__"):
        made = _about_a_part(_name) if _name in PARTS else _about_ends(_name) if _name in ENDS else _refuse
        setattr(Opaque, _name, made)

SEEN = frozenset({"trim", "default", "d"})  # filters that use the methods above
OF_LISTS = frozenset({"length", "count", "first", "last", "list", "reverse"})
OF_KINDS = frozenset(
    {"string", "defined", "undefined", "none", "mapping", "number", "boolean", "true", "false", "integer", "float"}
)


def holds_opaque(value: Any) -> bool:
    """Whether such a text is anywhere in a value."""
    if isinstance(value, Mapping):
        return any(map(holds_opaque, value.values()))
    return isinstance(value, Opaque) or (isinstance(value, list | tuple) and any(map(holds_opaque, value)))


def template(compiled: Any, source: str) -> Any | None:
    """A chat template that can be rendered with opaque texts: of the same environment, with its leaks closed.

    Args:
        compiled: as transformers compiled it. source: its text.

    Returns:
        None for a template that joins or compares texts in ways that cannot be watched, or tells the day.
    """
    from jinja2 import nodes

    environment = compiled.environment.overlay()
    parsed = environment.parse(source)
    unseen = (nodes.Concat, nodes.Mod, nodes.Macro, nodes.CallBlock, nodes.FilterBlock, nodes.AssignBlock)
    if next(parsed.find_all(unseen), None) is not None or "strftime_now" in source:
        return None
    if any(FIRST <= ord(letter) < FIRST + SLOTS for letter in source):
        return None
    for compare in parsed.find_all(nodes.Compare):
        members = [part.expr for part in compare.ops if part.op in ("in", "notin")]
        listed = all(isinstance(held, nodes.List | nodes.Tuple) for held in members)
        if not listed and not isinstance(compare.expr, nodes.Const | nodes.TemplateData):
            return None
    _watch(environment)
    return environment.from_string(source)


def _watch(environment: Any) -> None:
    """Let an environment raise where an opaque text would go somewhere unseen."""
    read, subscript, call = environment.getattr, environment.getitem, environment.call

    def getattr_(value: Any, name: str) -> Any:
        if type(value) is Opaque:
            if name not in METHODS:
                raise Uncertain
            return getattr(value, name)
        return read(value, name)

    def getitem(value: Any, key: Any) -> Any:
        if isinstance(value, Opaque) or isinstance(key, Opaque):
            raise Uncertain
        return subscript(value, key)

    def called(context: Any, function: Any, *given: Any, **more: Any) -> Any:
        keeps = isinstance(getattr(function, "__self__", None), Opaque) or getattr(function, "__name__", "").endswith(
            "Namespace"
        )
        passed = {name: value for name, value in more.items() if name not in ("_loop_vars", "_block_vars")}
        if not keeps and (holds_opaque(given) or holds_opaque(passed)):
            raise Uncertain
        return call(context, function, *given, **more)

    environment.getattr, environment.getitem, environment.call = getattr_, getitem, called
    environment.filters = {name: _guarded(name, held, SEEN) for name, held in environment.filters.items()}
    environment.tests = {name: _guarded(name, held, OF_KINDS) for name, held in environment.tests.items()}


def _guarded(name: str, function: Callable[..., Any], free: frozenset[str]) -> Callable[..., Any]:
    if name in free:
        return function

    @functools.wraps(function)
    def guarded(*given: Any, **more: Any) -> Any:
        watched: Sequence[Any] = [each for each in given if isinstance(each, Opaque)] if name in OF_LISTS else given
        if holds_opaque(list(watched)) or holds_opaque(more):
            raise Uncertain
        return function(*given, **more)

    return guarded
