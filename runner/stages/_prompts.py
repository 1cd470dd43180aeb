"""The prompts of a mix, ready to be asked again and again: rendered once, with the ids that inference sends.

The last turn of a row, where it is the assistant's, is left out. Prompts that are too long are dropped and told, and so
are those that the chat template refuses; too many of them end the stage.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
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
from runner.stages._questions import as_row, asked, named


def prompts(
    tokenizer: Any, given: Mix, template: Template, *, limit: int | None, room: int, seed: int, hub: str,
    places: Sequence[Path], max_dropped: float, folder: Path | None = None,
    answered: bool = False,
) -> list[Prompt]:  # fmt: skip
    """Read and render the prompts of a mix.

    Args:
        limit: tokens that a prompt may have. room: tokens that the model's context leaves for a prompt.
        folder: where `dropped.jsonl` is written, if anywhere. answered: whether a row needs an answer of its own.

    Raises:
        DataError: too many prompts are lost, or none is left.
    """
    read = mix.load(given, seed, hub, places)
    print(*read.told, sep="\n", end="\n" if read.told else "", flush=True)
    lost = list(read.dropped)
    held = named([asked(example) for example in read.train], read.train)
    made: list[Prompt] = []
    own = _answers(tokenizer, read.train, template, places) if answered else {}
    for place, (example, question) in enumerate(zip(read.train, held, strict=True)):
        try:
            found = _completion.prompt(tokenizer, question.messages, template, question.tools)
        except Refused as error:
            lost.append(Dropped(example.source, example.row, "the chat template refuses it", error.reason))
            continue
        most = room if limit is None else min(limit, room)
        if len(found.ids) > most:
            told = "max_length" if most == limit else "what the model's context leaves beside an answer"
            lost.append(_too_long(example, told, len(found.ids), most))
            continue
        answer = own.get(place)
        if isinstance(answer, Dropped):
            lost.append(answer)
            continue
        rows = tuple(as_row(message) for message in question.messages)
        known = (question.id, example.source, example.row, rows, question.columns)
        made.append(Prompt(*known, found.text, found.ids, found.head, found.prefix, answer))
    if read.validation:
        print(f"{len(read.validation)} rows are kept aside (mix.validation), which this stage does not use", flush=True)
    if folder is not None:
        dropped.write(folder, lost)
    total = len({(example.source, example.row) for example in read.train}) + len(read.dropped)
    dropped.refuse_many(list(dict.fromkeys(lost)), total, max_dropped)
    if not made:
        raise DataError("mix: there is no prompt in it. Give datasets with rows: mix.datasets=[rows.jsonl].")
    for reason, count in dropped.by_reason(lost).items():
        print(f"dropped: {count} prompts, {reason}", flush=True)
    return made


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
