"""`runner inspect +recipe=NAME [STAGE]`: what a training stage will be trained on, token by token.

The same functions as the stage's own make the sequences; nothing is trained and no model is loaded, only a tokenizer.
A stage that samples answers is tried on some prompts instead: see preflight.py.
"""

import argparse
import json
import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.cli import preflight
from runner.cli.compose import Composer
from runner.cli.output_file import refuse_present
from runner.core import artifact, schema
from runner.core.errors import ConfigError, near_miss
from runner.core.specs import STAGE
from runner.core.types import Encoded
from runner.data.judged import Rows, verdict
from runner.plan import Plan, Step, make, mix_of

NEEDED = ("model", "mix", "template", "loss_scale", "max_length", "overlong", "train_type")
PLACE_FLAGS = ("--config-dir", "--config-name", "--config-path")
COUNT = 3  # sequences that are shown
ORDERS = ("index", "longest", "shortest", "random")
FLAGS = (
    "--index N",
    "--longest",
    "--shortest",
    "--random",
    "--contains TEXT",
    "--count N",
    "--validation",
    "--output FILE",
)


@dataclass(frozen=True)
class Choice:
    """Which sequences are shown, and how many. output: where all of them are written as JSONL."""

    index: int | None = None
    longest: bool = False
    shortest: bool = False
    random: bool = False
    contains: str | None = None
    count: int | None = None
    validation: bool = False
    output: Path | None = None


def choice(words: Sequence[str]) -> tuple[Choice, list[str]]:
    """The flags of this verb, and the rest of the command line.

    Raises:
        ConfigError: a flag without its value, or with a wrong one.
    """
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False, exit_on_error=False)
    parser.add_argument("--index", type=int)
    parser.add_argument("--count", type=int)
    parser.add_argument("--contains")
    parser.add_argument("--output", type=Path)
    for flag in ("--longest", "--shortest", "--random", "--validation"):
        parser.add_argument(flag, action="store_true")
    try:
        found, rest = parser.parse_known_args(list(words))
    except argparse.ArgumentError as error:
        raise ConfigError(
            "command line", f"{error.argument_name}: {error.message}", f"Flags: {', '.join(FLAGS)}."
        ) from None
    orders = [f"--{name}" for name in ORDERS if _given(getattr(found, name))]
    if len(orders) > 1:
        raise ConfigError("command line", f"{' and '.join(orders)} choose differently", "Take one of them.")
    if found.count is not None and found.count < 0:
        raise ConfigError("command line", f"--count: should be at least 0, not {found.count}")
    own = [flag.split()[0] for flag in FLAGS]
    for word in (word.split("=")[0] for word in rest if word.startswith("--")):
        near = near_miss(word, own)
        if near.startswith("Did") and word not in PLACE_FLAGS:
            raise ConfigError("command line", f"no flag {word}", near)
    return Choice(**vars(found)), rest


def _given(value: Any) -> bool:
    return value is not None and value is not False  # 0 is a number of a sequence


def inspect(composer: Composer, chosen: Choice, names: Sequence[str]) -> int:
    """Encode the mix of a stage; print a summary and some sequences, or write all of them.

    Raises:
        RunnerError: what would stop the training, before it starts.
    """
    from runner.cli.show_tokens import show, summary
    from runner.data import gate
    from runner.data.prepare import Reading, prepare
    from runner.models.load import load_tokenizer
    from runner.models.locate import locate

    refuse_present(chosen.output)
    plan = make(composer.values(), composer.places)
    samples = preflight.chosen(plan, names)
    if samples is not None:
        _refuse_choice(samples, chosen)
        return preflight.preflight(plan, samples, _model(plan, samples), chosen.count, chosen.output)
    step = _stage(plan, names)
    stage, recipe = step.stage, plan.recipe
    tokenizer = load_tokenizer(locate(_model(plan, step), recipe.hub), chat=False)
    rows: Rows = getattr(stage, "rows", "conversations")
    reading = Reading(stage.template, stage.loss_scale, stage.max_length, stage.overlong, rows=rows)
    made = prepare(
        tokenizer, mix_of(plan, step), reading,
        seed=recipe.seed, hub=recipe.hub, places=plan.places, max_dropped=1.0, gated=False,
    )  # fmt: skip
    part = made.validation if chosen.validation else made.train
    lost = list(made.dropped)
    if chosen.output is not None:
        written = write(chosen.output, part.sequences, lost)
        print(f"{chosen.output}: {written} lines")
    summary(step.name, part.sequences, lost, made.report)
    numbers = pick(part.sequences, chosen)
    if chosen.contains is not None and not numbers and chosen.count != 0:
        print(f"no sequence contains {chosen.contains!r}")
    for number in numbers:
        show(number, part.sequences[number], tokenizer)
    gate.check((one for part in (made.train, made.validation) for one in part.sequences), tokenizer)
    return 0


def _refuse_choice(step: Step, chosen: Choice) -> None:
    """Of a stage that samples answers some prompts are asked; there are no sequences to choose among."""
    given = [name for name in (*ORDERS, "contains", "validation") if _given(getattr(chosen, name))]
    if given:
        fix = "It takes --count N and --output FILE."
        raise ConfigError("command line", f"--{given[0]}: stage {step.name!r} samples answers", fix)
    if chosen.count == 0:
        raise ConfigError("command line", "--count: should be at least 1, not 0")


def _stage(plan: Plan, names: Sequence[str]) -> Step:
    """The stage that was named, or the first one that trains."""
    able = [step for step in plan.steps if all(hasattr(step.stage, name) for name in NEEDED)]
    if not able:
        raise ConfigError(
            "stages", "no stage here trains on a mix of data", "Choose a recipe with a stage of kind sft."
        )
    for name in names[:1]:
        if name not in [step.name for step in able]:
            raise ConfigError(
                "inspect", f"no training stage named {name!r}", near_miss(name, [step.name for step in able])
            )
        return plan.step(name)
    return able[0]


def _model(plan: Plan, step: Step) -> Any:
    """The stage's model; of a stage that is not complete, the model which that stage starts from: same tokenizer."""
    model = step.stage.model
    while model.id.startswith(STAGE):
        before = plan.step(model.id.removeprefix(STAGE).split("#")[0].split("/")[0])
        if artifact.read(before.folder) is not None:
            return schema.build(type(model), {**schema.plain(model), "id": str(before.folder)})
        model = before.stage.model
    return model


def pick(sequences: Sequence[Encoded], chosen: Choice) -> list[int]:
    """The numbers of the sequences to show.

    Raises:
        ConfigError: there are not so many.
    """
    count = COUNT if chosen.count is None else chosen.count
    if chosen.index is not None:
        if not 0 <= chosen.index < len(sequences):
            raise ConfigError("--index", f"no sequence {chosen.index}", f"There are {len(sequences)}, counted from 0.")
        return [chosen.index]
    numbers = list(range(len(sequences)))
    if chosen.contains is not None:
        numbers = [number for number in numbers if chosen.contains in sequences[number].text]
    size: Callable[[int], int] = lambda number: len(sequences[number].input_ids)  # noqa: E731
    if chosen.longest or chosen.shortest:
        numbers = sorted(numbers, key=size, reverse=chosen.longest)
    elif chosen.random:
        random.shuffle(numbers)
    return numbers[:count]


def write(file: Path, sequences: Sequence[Encoded], lost: Sequence[Any]) -> int:
    """Write the inspect JSONL: one object a sequence as trained, then one a dropped row. Returns the lines."""
    file.parent.mkdir(parents=True, exist_ok=True)
    side = file.with_name(f".{file.name}.{os.getpid()}")
    count = 0
    with open(side, "w", encoding="utf-8") as stream:
        for line in lines(sequences, lost):
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")
            count += 1
    os.replace(side, file)
    return count


def lines(sequences: Sequence[Encoded], lost: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """The objects of the inspect JSONL; of judged rows with `answer` (chosen, rejected) or `label` (true, false)."""
    for sequence in sequences:
        yield {
            "source": sequence.source, "row": sequence.row, "turn": sequence.turn, "text": sequence.text,
            "input_ids": sequence.input_ids, "labels": sequence.labels, "weights": sequence.weights,
            **dict(filter(None, [verdict(sequence.values)])),
        }  # fmt: skip
    for row in lost:
        reason = f"{row.reason} ({row.detail})" if row.detail else row.reason
        yield {"source": row.source, "row": row.row, "dropped": reason}
