"""The questions of a stage: prompts from datasets, and plain questions from the recipe itself.

The last turn of a row, where it is the assistant's, is taken away and kept as the reference, unless a column of that
name holds one. Every question has an id that stays the same from run to run: the row's own `id` where all differ, else
its source and row number.
"""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from runner.core import registry
from runner.core.errors import ConfigError, DataError
from runner.core.specs import STAGE, Dataset, Mix, Reward, Variables
from runner.core.types import Example, Message
from runner.data import dropped, mix
from runner.data.carried import spelled
from runner.data.read import rows
from runner.data.sources import parse

LOOKED_AT = 1000  # rows whose columns are looked at when planning
WRITTEN = (
    "id", "messages", "response", "reasoning", "reference", "finish_reason", "prompt_tokens", "completion_tokens",
    "sample", "error", "token_ids", "logprobs",
)  # fmt: skip


@dataclass(frozen=True)
class Question:
    """What is asked. reference: the row's column of that name, else the answer that it ends with.

    columns: all else that the row holds.
    """

    id: str
    messages: tuple[Message, ...]
    source: str
    reference: Any = None
    tools: tuple[Mapping[str, Any], ...] = ()
    columns: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def seed(self, seed: int) -> int:
        """The seed of its answers: the same in every run, whatever is asked beside it."""
        return int.from_bytes(hashlib.sha256(f"{seed}:{self.id}".encode()).digest()[:4], "big")


def check(
    prompts: Sequence[str | Dataset],
    questions: Sequence[str],
    variables: Variables,
    roots: Sequence[Path],
    key: str,
    hub: str,
) -> set[str] | None:
    """At plan time: there is a question, and each dataset is there or a hub's.

    Returns:
        The columns of the data, None where some of it is not here yet.

    Raises:
        ConfigError: what is wrong with which entry.
    """
    if not prompts and not questions:
        fix = f'Give {key}.prompts=[rows.jsonl] or {key}.questions=["who are you?"].'
        raise ConfigError(f"{key}.prompts", "no question to ask", fix)
    try:
        if prompts:
            mix.check(Mix(datasets=list(prompts), variables=dict(variables)), roots, hub, f"{key}.prompts")
        return columns_of(prompts, roots, hub, f"{key}.prompts")
    except ConfigError as error:  # under the key that the user wrote
        raise ConfigError(error.key.replace(".prompts.datasets", ".prompts"), error.problem, error.fix) from None


def refuse_own(rewards: Mapping[str, Reward], roots: Sequence[Path], key: str, columns: set[str] | None) -> None:
    """A reward that asks for a column of the data would get the answer's own of that name: an answer compared with
    itself is always right.

    Raises:
        ConfigError: such a reward.
    """
    own = (set(WRITTEN) - {"id", "messages", "reference", "finish_reason"}) & (columns or set())
    for name in rewards:
        for column in registry.signature("rewards", name, roots, f"{key}.{name}").columns:
            if column in own:
                problem = f"asks for {column!r}, which in a row that was answered is the answer's own"
                fix = "Give the data's column another name; the last assistant turn of a row is `reference`."
                raise ConfigError(f"{key}.{name}", problem, fix)


def columns_of(prompts: Sequence[str | Dataset], roots: Sequence[Path], hub: str, key: str) -> set[str] | None:
    """The columns of datasets, as far as planning can know them; None where some data is not here yet."""
    columns: set[str] = set()
    for number, entry in enumerate(prompts):
        if (entry if isinstance(entry, str) else entry.dataset).startswith(STAGE):
            return None
        source = parse(entry, roots, hub, f"{key}.{number}")
        if not source.files:
            return None
        columns |= set(source.known.columns.values() if source.known else ()) | set(source.spec.columns.values())
        columns |= {name for file in source.files for row in islice(rows(file), LOOKED_AT) for name in row.values}
    return columns


def gather(
    prompts: Sequence[str | Dataset],
    questions: Sequence[str],
    variables: Variables,
    seed: int,
    hub: str,
    roots: Sequence[Path],
) -> list[Question]:
    """All questions, in the order of the recipe and of the rows. What is no question is told.

    Args:
        variables: those of the mix; they fill the prompts' columns too.

    Raises:
        DataError: no question at all, or rows that cannot be read.
    """
    read = None
    if prompts:
        given = Mix(datasets=list(prompts), variables=dict(variables))
        read = mix.load(given, seed, hub, roots, "prompts")
        for reason, count in dropped.by_reason(read.dropped).items():
            example = next(row for row in read.dropped if row.reason == reason)
            print(f"{count} rows are not asked: {reason}; for example {example.sentence()}", flush=True)
    plain = [Example((Message("user", text),), source="questions", row=row) for row, text in enumerate(questions)]
    examples = [*(read.train if read else ()), *plain]
    found = [asked(example) for example in examples]
    if not found:
        raise DataError("prompts: there is no question in them. Give datasets with rows, or questions: [...].")
    made = named(found, examples)
    _tell_replaced(made, examples)
    return made


def _tell_replaced(questions: Sequence[Question], examples: Sequence[Example]) -> None:
    """Columns of the rows that do not reach rewards and results, as an answer has its own of that name."""
    rows = [example for example in examples if "finish_reason" not in example.columns]  # no answers themselves
    used = {"id", "messages", "response", "reference"}
    names = sorted({name for example in rows for name in example.columns if name in WRITTEN} - used)
    if names:
        print(f"an answer has its own {', '.join(names)}: these columns of the rows are left out", flush=True)
    own = [str(example.columns["id"]) for example in examples if example.columns.get("id") is not None]
    if len(set(own)) < len(own):
        print(
            f"the rows' ids are not all different: an id is the source and the row number, {questions[0].id}",
            flush=True,
        )


def asked(example: Example) -> Question:
    """The question of a row."""
    messages, reference = example.messages, spelled(example.columns.get("reference"))
    if messages and messages[-1].role == "assistant":
        messages, ended = messages[:-1], messages[-1].content
        reference = ended if reference is None else reference
    columns = {name: spelled(value) for name, value in example.columns.items() if name not in WRITTEN}
    return Question(f"{example.source}:{example.row}", messages, example.source, reference, example.tools, columns)


def named(found: list[Question], examples: Sequence[Example]) -> list[Question]:
    """The questions, each with an id of its own: the rows' own where all differ."""
    own = [example.columns.get("id") for example in examples]
    unique = all(count == 1 for count in Counter(str(name) for name in own if name is not None).values())
    wanted = [str(name) if name is not None and unique else one.id for one, name in zip(found, own, strict=True)]
    seen: Counter[str] = Counter()
    made = []
    for question, name in zip(found, wanted, strict=True):
        seen[name] += 1  # the same row may be asked twice, by two entries
        made.append(dataclasses.replace(question, id=name if seen[name] == 1 else f"{name} ({seen[name]})"))
    return made


def as_row(message: Message) -> dict[str, Any]:
    """A message as a dataset holds it."""
    made: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.reasoning is not None:
        made["reasoning_content"] = message.reasoning
    if message.tool_calls:
        made["tool_calls"] = [dict(call) for call in message.tool_calls]
    if message.name is not None:
        made["name"] = message.name
    if message.tool_call_id is not None:
        made["tool_call_id"] = message.tool_call_id
    if message.loss is not None:
        made["loss"] = message.loss
    if message.loss_scale is not None:
        made["loss_scale"] = message.loss_scale
    return made
