"""The prompts of a mix, ready to be asked again and again: rendered once, with the ids that inference sends.

The last turn of a row, where it is the assistant's, is left out. Prompts that are too long are dropped and told, and so
are those that the chat template refuses; too many of them end the stage.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runner.backends import _completion
from runner.core.errors import ConfigError, DataError
from runner.core.specs import Mix, Template
from runner.core.types import Encoded, Example
from runner.data import dropped, mix
from runner.data.dropped import Dropped
from runner.data.pieces import Reading
from runner.data.render import Refused
from runner.models.locate import CONFIG
from runner.rollouts.answers import Prompt
from runner.stages._questions import Question, as_row, asked, named


@dataclass(frozen=True)
class Limit:
    """Tokens that a prompt may have, and what says so."""

    tokens: int
    told: str


def prompts(
    tokenizer: Any, given: Mix, template: Template, *, limit: int | None, room: int, seed: int, hub: str,
    places: Sequence[Path], max_dropped: float, folder: Path | None = None,
    answered: bool = False,
) -> tuple[list[Prompt], list[Prompt]]:  # fmt: skip
    """Read and render the prompts of a mix: those to learn from, and those kept aside (mix.validation).

    Args:
        limit: tokens that a prompt may have. room: tokens that the model's context leaves for a prompt.
        folder: where `dropped.jsonl` is written, if anywhere. answered: whether a row to
            learn from needs an answer of its own.

    Raises:
        DataError: too many prompts are lost, or none is left.
    """
    read = mix.load(given, seed, hub, places)
    print(*read.told, sep="\n", end="\n" if read.told else "", flush=True)
    lost = list(read.dropped)
    most = room if limit is None else min(limit, room)
    told = "max_length" if most == limit else "what the model's context leaves beside an answer"
    own = _answers(tokenizer, read.train, template, places) if answered else {}
    made = _rendered(tokenizer, read.train, template, Limit(most, told), own, lost)
    aside = _rendered(tokenizer, read.validation, template, Limit(most, told), {}, lost)
    if folder is not None:
        dropped.write(folder, lost)
    total = len({(example.source, example.row) for part in (read.train, read.validation) for example in part})
    dropped.refuse_many(list(dict.fromkeys(lost)), total + len(read.dropped), max_dropped)
    if not made:
        raise DataError("mix: there is no prompt in it. Give datasets with rows: mix.datasets=[rows.jsonl].")
    for reason, count in dropped.by_reason(lost).items():
        print(f"dropped: {count} prompts, {reason}", flush=True)
    return made, aside


def _rendered(
    tokenizer: Any, examples: Sequence[Example], template: Template, limit: Limit, own: Mapping[int, Encoded | Dropped],
    lost: list[Dropped],
) -> list[Prompt]:  # fmt: skip
    """The prompts of some rows; what is no prompt goes to `lost`. own: the answers of rows, by their place."""
    made: list[Prompt] = []
    held = named([asked(example) for example in examples], examples)
    for place, (example, question) in enumerate(zip(examples, held, strict=True)):
        try:
            found = _completion.prompt(tokenizer, question.messages, template, question.tools)
        except Refused as error:
            lost.append(Dropped(example.source, example.row, "the chat template refuses it", error.reason))
            continue
        if len(found.ids) > limit.tokens:
            lost.append(_too_long(example, limit.told, len(found.ids), limit.tokens))
            continue
        answer = own.get(place)
        if isinstance(answer, Dropped):
            lost.append(answer)
            continue
        rows = tuple(as_row(message) for message in question.messages)
        known = (question.id, example.source, example.row, rows, _columns(question))
        made.append(Prompt(*known, found.text, found.ids, found.head, found.prefix, answer))
    return made


def _columns(question: Question) -> dict[str, Any]:
    """What rewards get of a row: by the names that a line of answers has."""
    own = {} if question.reference is None else {"reference": question.reference}
    return {**question.columns, **own, "id": question.id}


def room(located: Any, new: int) -> int:
    """Tokens that the model's context leaves for a prompt beside an answer of `new` tokens.

    Raises:
        ConfigError: none.
    """
    config = json.loads((located.base / CONFIG).read_text(encoding="utf-8"))
    context = int(config.get("max_position_embeddings") or 1 << 30)
    if new >= context:
        raise ConfigError(
            "sampling.max_new_tokens", f"{new} leave no room for a prompt: the model takes {context} tokens"
        )
    return context - new


def _answers(
    tokenizer: Any, examples: Sequence[Example], template: Template, places: Sequence[Path]
) -> dict[int, Encoded | Dropped]:
    """Each row with its own last turn, that turn alone trained."""
    encoder = Reading(replace(template, turns="last"), ["default"], places=tuple(places)).encoder(tokenizer)
    made = [encoder.encode(example) for example in examples]
    return {place: one if isinstance(one, Dropped) else one[-1] for place, one in enumerate(made)}


def _too_long(example: Example, what: str, length: int, most: int) -> Dropped:
    return Dropped(example.source, example.row, f"longer than {what}", f"{length} > {most} tokens")
