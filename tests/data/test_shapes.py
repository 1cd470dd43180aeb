"""A row filled into a shape is the row rendered, for any words and whatever its chat template does with them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.core.specs import Template
from runner.core.types import Example, Message
from runner.data import rules
from runner.data.encode import Encoder
from runner.data.opaque import Asked, Uncertain, opaque
from tests.tiny import TEMPLATES, tiny_tokenizer

START = "{% for m in messages %}<|im_start|>{{ m.role }}\n"
END = "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
# what templates of other families do, and what none should
OTHERS = {
    "trims": START + "{{ m.content | trim }}" + END,
    "asks": START + "{% if m.content.startswith('ab') or 'cd' in m.content %}!{% endif %}{{ m.content }}" + END,
    "compares": START + "{% if m.content == 'abc' or m.content in ['x', 'cd'] %}!{% endif %}{{ m.content }}" + END,
    "splits": START + "{{ m.content.split('b')[-1] }}{{ '' if 'b' in m.content else m.content }}" + END,
    "counts": START + "{% if m.content | length > 3 %}!{% endif %}{{ m.content }}" + END,
    "cuts": START + "{{ m.content[:2] }}{{ m.content[2:] }}" + END,
    "cases": START + "{% if m.content.isupper() %}!{% endif %}{{ m.content }}" + END,
    "json": START + "{{ m | tojson }}{{ m.content }}" + END,
    "joins": START + "{% set t = m.role ~ m.content %}{% if 'ra' in t %}!{% endif %}{{ m.content }}" + END,
    "joins a list": START + "{{ [m.content, 'b'] | join }}{{ m.content }}" + END,
    "formats": START + "{{ '%s' % m.content }}" + END,
    "first letter": "{% if messages[0].content[0] == 'a' %}!{% endif %}" + START + "{{ m.content }}" + END,
    "within": START + "{% if m.content in 'abcd' %}!{% endif %}{{ m.content }}" + END,
    "adds": START
    + "{% set t = 'a' + m.content + 'b' %}{% if 'ab' in t or t.endswith('bb') %}!{% endif %}{{ t }}"
    + END,
    "replaces": START + "{{ m.content.replace('d', 'c') }}" + END,
    "keeps": "{% set ns = namespace(t='') %}"
    + START
    + "{% set ns.t = m.content %}{% if ns.t == '' %}!{% endif %}{{ ns.t }}"
    + END,
    "macro": "{% macro say(t) %}{{ t }}{% endmacro %}"
    + START
    + "{% if 'b' in say(m.content) %}!{% endif %}{{ m.content }}"
    + END,
    "default": START + "{{ m.content | default('x') | trim }}" + END,
    "selects": START + "{{ messages | map(attribute='content') | list | length }}{{ m.content }}" + END,
    "another": START + "{% if m.content == messages[0].content %}!{% endif %}{{ m.content }}" + END,
    "prompt of its own": START
    + "{{ m.content }}<|im_end|>\n{% endfor %}"
    + "{% if add_generation_prompt %}<|im_start|>assistant\nab{% endif %}",
}
ALL = {**TEMPLATES, **OTHERS}
WORDS = st.one_of(
    st.text("abcd <>\n", min_size=1, max_size=5),
    st.sampled_from(
        ["abc", "ABC", "x", "cd", "<tool_response>", "<|im_end|>", " b", "</think>", "\ue100", "some words"]
    ),
)
THOUGHTS = st.sampled_from(["", "", "<think>\n\n</think>\n\n", "<think>\nhm\n</think>\n\n", "<think>ab</think>b"])


@st.composite
def rows(draw: st.DrawFn) -> list[tuple[Message, ...]]:
    """Rows of few shapes, so that shapes are met again."""
    rounds = draw(st.integers(1, 3))
    made = []
    for _ in range(draw(st.integers(2, 5))):
        row = [Message("system", draw(WORDS))] if draw(st.booleans()) else []
        for _ in range(rounds):
            row += [Message("user", draw(WORDS)), Message("assistant", draw(THOUGHTS) + draw(WORDS))]
        made.append(tuple(row))
    return made


@pytest.mark.parametrize(
    ("kind", "turns"),
    [*((kind, "faithful") for kind in ALL), *((kind, turns) for kind in TEMPLATES for turns in ("all", "last"))],
)
@settings(max_examples=12, deadline=None)
@given(made=rows())
def test_a_filled_row_is_the_row_as_it_is_rendered(kind: str, turns: str, made: list[tuple[Message, ...]]) -> None:
    """Whether its shape was met before or not."""
    tokenizer, template = tiny_tokenizer(ALL[kind]), Template(turns=turns)
    loaded = rules.load(["default", {"patterns": {"regex": {"ab": 2}}}])
    known, anew = (Encoder(tokenizer, template, loaded) for _ in range(2))
    anew.drafter.shapes.template = None
    for row in made * 2:
        assert known.encode(Example(row)) == anew.encode(Example(row))
    assert known.notes == anew.notes


def test_words_that_are_there_and_words_that_are_not_make_different_shapes() -> None:
    """Blanks alone, and words beside blanks."""
    known, anew = (Encoder(tiny_tokenizer("thinker"), Template(), rules.load(["default"])) for _ in range(2))
    anew.drafter.shapes.template = None
    for answer in (" ", "a ", " a", " ", "a ", " a", "<think>\n\n</think>\n\na", "<think>\nb\n</think>\n\na") * 2:
        row = Example((Message("user", "q"), Message("assistant", answer)))
        assert known.encode(row) == anew.encode(row)


@pytest.mark.parametrize(("kind", "filled"), [("chatml", True), ("thinker", True), ("trims", True), ("cuts", False)])
def test_shapes_are_used(kind: str, filled: bool) -> None:
    """Where the template can be watched; the rendering itself is done for the first two rows alone."""
    encoder = Encoder(tiny_tokenizer(ALL[kind]), Template(), rules.load(["default"]))
    for number in range(5):
        encoder.encode(Example((Message("user", f"question {number}"), Message("assistant", f"answer {number}"))))
    assert any(encoder.drafter.shapes._made.values()) is filled


def test_what_an_opaque_text_does_not_tell() -> None:
    """Every method of texts is answered with a condition, or not at all."""
    asked = Asked()
    text = opaque("x\ue100", asked)
    for name in set(dir(str)) - {"__class__", "__new__", "__init__"}:
        if name not in vars(type(text)):
            assert name.startswith("__") and name[2:5] in {"dir", "doc", "get", "set", "del", "ini", "sub", "red"}, name
    for look in (
        len,
        list,
        hash,
        repr,
        str.upper,
        lambda held: held[0],
        lambda held: held < "b",
        lambda held: held * 2,
    ):
        with pytest.raises((Uncertain, TypeError)):
            look.__call__(text) if look is not str.upper else text.upper()
    assert "ab" not in text and not text.startswith("cd")
    fits = (text.strip(), asked.fits())[1]
    assert fits("hello") and fits("xy")
    assert not any(map(fits, ["has ab", "b is the end of ab", "d is the end of cd", "ends with a", " blank", "a"]))
