"""What a rollout is made of: prompts as they are asked, answers as they came and were judged, groups of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from typing import Any

from runner.core.types import UNTRAINED, Completion, Encoded

PER_TOKEN = ("old", "reference", "correction", "values", "gains", "returns")


@dataclass(frozen=True)
class Prompt:
    """What is asked. messages and columns: as rewards get them. text: what is sent, as inference sends it.

    ids: of text; those from `head` on, whose text is `prefix`, belong to the answer already (a think block that the
    template opened, the response_prefix).
    """

    id: str
    source: str
    row: int
    messages: tuple[Mapping[str, Any], ...]
    columns: Mapping[str, Any]
    text: str
    ids: tuple[int, ...]
    head: int
    prefix: str = ""
    own: Encoded | None = None  # the row with its own last turn, trained


@dataclass(frozen=True)
class Answer:
    """One completion of a prompt and what became of it. seconds: after the rollout began. advantage None: it teaches
    nothing. masked: no loss, since it was cut off. told: the loss is told the sampler's log-probabilities. old,
    reference, correction, values, gains, returns: one a trained token, or empty.
    """

    prompt: int
    sample: int
    completion: Completion
    seconds: float = 0.0
    scores: Mapping[str, float | None] = field(default_factory=dict)
    total: float | None = None
    advantage: float | None = None
    masked: bool = False
    given: bool = False  # the row's own answer, which nobody sampled
    told: bool = False
    old: tuple[float, ...] = ()
    reference: tuple[float, ...] = ()
    correction: tuple[float, ...] = ()
    values: tuple[float, ...] = ()
    gains: tuple[float, ...] = ()
    returns: tuple[float, ...] = ()

    @property
    def truncated(self) -> bool:
        """Whether it reached the limit of tokens."""
        return self.completion.finish_reason == "length"

    @property
    def sampled(self) -> tuple[float, ...]:
        """The sampler's log-probabilities of the tokens that the model chose."""
        return tuple(compress(self.completion.logprobs or (), self.completion.mask))

    def encoded(self, prompt: Prompt) -> Encoded:
        """The sequence that is trained on: the prompt's own ids, then those that were sampled, trained."""
        if self.given and prompt.own is not None:
            return replace(prompt.own, values={"advantage": self.advantage or 0.0})
        made = self.completion
        ids = [*prompt.ids[: made.prompt_tokens], *made.token_ids]
        chosen = [
            UNTRAINED if self.masked or not mask else t for t, mask in zip(made.token_ids, made.mask, strict=True)
        ]
        labels = [UNTRAINED] * made.prompt_tokens + chosen
        known = {"old": self.old, "reference": self.reference, "correction": self.correction}
        known |= {"value": self.values, "gain": self.gains, "return": self.returns}
        known |= {"sampled": self.sampled} if self.told else {}
        places = [i for i, label in enumerate(labels) if label != UNTRAINED]
        per_token = {name: _placed(values, places, len(ids)) for name, values in known.items() if values}
        values = {"advantage": self.advantage or 0.0}
        return Encoded(ids, labels, None, prompt.source, prompt.row, values=values, per_token=per_token)


def _placed(values: Sequence[float], places: Sequence[int], length: int) -> list[float]:
    made = [0.0] * length
    for place, value in zip(places, values, strict=True):
        made[place] = value
    return made


Group = tuple[Answer, ...]  # all answers to one prompt


@dataclass(frozen=True)
class Rollout:
    """The answers that some updates learn from. parts: the groups of each update. figures: to be logged with them.

    drawn: prompts that were asked; more than there are groups where dynamic sampling passed some over.
    """

    number: int
    parts: tuple[tuple[Group, ...], ...]
    figures: Mapping[str, float] = field(default_factory=dict)
    drawn: int = 0

    @property
    def groups(self) -> list[Group]:
        """Those of all parts."""
        return [group for part in self.parts for group in part]


def from_plain(held: Mapping[str, Any]) -> Rollout:
    """The rollout of which these are the `vars`, as JSON holds them."""
    parts = tuple(tuple(tuple(_answer(one) for one in group) for group in part) for part in held["parts"])
    return Rollout(held["number"], parts, held["figures"], held["drawn"])


def _answer(held: Mapping[str, Any]) -> Answer:
    made = dict(held["completion"])
    for name in ("token_ids", "mask", "logprobs"):
        made[name] = None if made[name] is None else tuple(made[name])
    lists = {name: tuple(held[name]) for name in PER_TOKEN}
    return Answer(**{**held, **lists, "completion": Completion(**made)})
