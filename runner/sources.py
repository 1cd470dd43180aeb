"""What a stage is made from besides its keys: data, plugins, models and the encoder's version, each by its content.

Found by walking the stage's own fields, so that no stage has to say it: a `Mix` or `Dataset` counts by the content of
its files, a `Model` by its folder, `reward`, `loss_scale` and `format` by their plugin's source, and any other text
that names a file by that file. What another stage makes (`stage:NAME`) counts by that stage. A hub id counts by its
name and revision alone.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from runner.core import registry, schema
from runner.core.content import digest, file_digest
from runner.core.places import PACKAGE
from runner.core.specs import Dataset, Mix, Model, TrainType
from runner.data import fingerprint as data
from runner.data import rules
from runner.models import fingerprint as models

REFERENCE = "stage:"
PLUGINS = {"reward": "rewards", "format": "formats"}
DATASETS = ("prompts", "datasets")  # fields whose texts are datasets
NOT_FILES = (TrainType,)  # names of weights are no file names


def sources(kind: str, stage: Any, places: Sequence[Path]) -> dict[str, str]:
    """Map what the stage is made from, such as `data a.jsonl` or `reward accuracy`, to a digest of its content."""
    found = dict(_walk(stage, "", places))
    file = registry.find("stages", kind, places)
    if file.parent != PACKAGE / "stages":
        found[f"stage kind {kind}"] = digest(file.read_bytes())
    if any(key.startswith("data ") for key in found):
        found["encoder"] = f"version {data.ENCODER}"
    if hasattr(stage, "sources"):
        found.update(stage.sources(places))
    return dict(sorted(found.items()))


def _walk(value: Any, name: str, places: Sequence[Path]) -> Iterator[tuple[str, str]]:
    if name in PLUGINS:
        yield from _plugins(name, value, places)
    elif name == "loss_scale":
        yield from _rules(value, places)
    elif isinstance(value, Model):
        if not value.id.startswith(REFERENCE):
            yield f"model {value.id}", models.identity(value.id, value.revision)
        if value.adapter and not value.adapter.startswith(REFERENCE):
            yield f"adapter {value.adapter}", models.identity(value.adapter, None)
    elif isinstance(value, Mix):
        for entry in [*value.datasets, *value.validation.datasets]:
            yield from _dataset(entry, places)
    elif isinstance(value, Dataset):
        yield from _dataset(value, places)
    elif isinstance(value, NOT_FILES):
        return
    elif dataclasses.is_dataclass(value):
        types_of = schema.hints(type(value))
        for field in dataclasses.fields(value):
            if not schema.is_execution(types_of[field.name]):
                yield from _walk(getattr(value, field.name), field.name, places)
    elif isinstance(value, list | tuple):
        for item in value:
            if name in DATASETS and isinstance(item, str):
                yield from _dataset(item, places)
            else:
                yield from _walk(item, "", places)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _walk(item, str(key), places)
    elif isinstance(value, str):
        yield from _named_file(value)


def _dataset(entry: str | Dataset, places: Sequence[Path]) -> Iterator[tuple[str, str]]:
    name = entry if isinstance(entry, str) else entry.dataset
    if name.startswith(REFERENCE):
        return
    yield f"data {name.split('#')[0]}", data.identity(entry, places)
    if isinstance(entry, Dataset):
        yield from _rules(entry.loss_scale, places) if entry.loss_scale is not None else ()
        yield from _plugins("format", [entry.format] if entry.format else [], places)


def _rules(names: Any, places: Sequence[Path]) -> Iterator[tuple[str, str]]:
    for name, mark in rules.sources(names, places).items():
        yield f"loss_scale {name}", mark


def _plugins(name: str, value: Any, places: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """The plugins that a mapping or a list names, each by its source text."""
    entries = [value] if isinstance(value, str) else value or []
    for entry in entries:
        for plugin in entry if isinstance(entry, Mapping) else [entry]:
            file = registry.names(PLUGINS[name], places).get(str(plugin))
            if file is not None:
                yield f"{name} {plugin}", digest(file.read_bytes())


def _named_file(text: str) -> Iterator[tuple[str, str]]:
    if 0 < len(text) < 500 and "\n" not in text:
        file = Path(text.split("#")[0])
        if file.suffix and file.is_file():
            yield f"file {text.split('#')[0]}", file_digest(file)
