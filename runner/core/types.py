"""The few values that travel through the data path: what a row means, what was rendered, what is trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Message:
    """One turn. `loss` and `loss_scale` override the rules for it alone. tool_call_id: the call that it answers."""

    role: str  # system | user | assistant | tool
    content: str
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    name: str | None = None
    reasoning: str | None = None
    loss: bool | None = None
    loss_scale: float | None = None
    tool_call_id: str | None = None


@dataclass(frozen=True)
class Example:
    """What a row means, whatever file it came from. `source` and `row` say where it lies."""

    messages: tuple[Message, ...]
    source: str = ""
    row: int = 0
    rejected: tuple[Message, ...] = ()  # preference data: the conversation whose ending was not preferred
    label: bool | None = None  # KTO
    tools: tuple[Mapping[str, Any], ...] = ()
    columns: Mapping[str, Any] = field(default_factory=dict)  # every column of the row, for rewards
    text: str | None = None  # plain text, for continued pre-training: no template
    part: int = 0  # which dataset of the mix, counted from 0


@dataclass(frozen=True)
class Span:
    """A stretch of rendered text and who said it. An assistant turn is two: what it says, and its end-of-turn token.

    role: system | user | assistant | tool, or "template" for what the chat template wrote around them.
    turn: index of the message in the conversation, -1 for the template's own text; what the template writes right after
    an assistant turn (a newline) has the role template and the index of that turn.
    last: whether the span belongs to the last round, that is, comes after the last user message.
    weight: 1.0, or the message's own `loss_scale`.
    """

    text: str
    role: str
    turn: int
    last: bool
    weight: float = 1.0


UNTRAINED = -100  # the label of a token that is not trained


@dataclass(frozen=True)
class Encoded:
    """One sequence as trained. Lists have one entry a token.

    labels: the token where trained, -100 elsewhere. weights: None when every trained token weighs 1.
    turn: index of the last message that the sequence holds. values: what an algorithm knows of the whole sequence,
    such as an advantage; per_token: what it knows of each token, such as a reference's log-probability, a number or
    so many for every one.
    """

    input_ids: list[int]
    labels: list[int]
    weights: list[float] | None
    source: str = ""
    row: int = 0
    turn: int = 0
    text: str = ""
    values: Mapping[str, float] = field(default_factory=dict)
    per_token: Mapping[str, Sequence[float | Sequence[float]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Completion:
    """One answer of a model. `text` holds everything after the prompt, the response prefix included.

    token_ids: those of the prefix, then the generated ones, the end mark included; logprobs has as many (0 for the
    prefix), and so has mask: 1 where the model chose the token.
    """

    text: str
    reasoning: str | None
    finish_reason: str  # stop | length | error
    prompt_tokens: int
    completion_tokens: int
    sample: int = 0
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] | None = None
    mask: tuple[int, ...] = ()
    error: str | None = None
