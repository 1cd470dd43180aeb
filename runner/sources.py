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
from runner.core.content import file_digest
from runner.core.imported import source_digest
from runner.core.places import PACKAGE
from runner.core.specs import STAGE, Dataset, Model, TrainType
from runner.data import fingerprint as data
from runner.data import rules
from runner.models import fingerprint as models
from runner.scoring.built_on import built_on

PLUGINS = {"reward": "rewards", "format": "formats"}
DATASETS = ("prompts", "datasets")  # fields whose texts are datasets
NOT_FILES = (TrainType,)  # names of weights are no file names


def sources(kind: str, stage: Any, places: Sequence[Path]) -> dict[str, str]:
    """Map what the stage is made from, such as `data a.jsonl` or `reward accuracy`, to a digest of its content."""
    found = dict(_walk(stage, "", places))
    file = registry.find("stages", kind, places)
    if file.parent != PACKAGE / "stages":
        found[f"stage kind {kind}"] = source_digest(file)
    if any(key.startswith("data ") for key in found):
        found["encoder"] = f"version {data.ENCODER}"
    if hasattr(stage, "sources"):
        found.update(stage.sources(places))
    return dict(sorted(found.items()))


def _walk(value: Any, name: str, places: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """What lies in a field of that name."""
    if name in PLUGINS:
        yield from _plugins(name, value, places)
    elif name == "loss_scale":
        yield from _rules(value, places)
    elif isinstance(value, Model):
        yield from _model(value)
    elif isinstance(value, Dataset) or (isinstance(value, str) and name in DATASETS):
        yield from _dataset(value, places)
    elif isinstance(value, str):
        yield from _named_file(value)
    elif not isinstance(value, NOT_FILES):
        for key, item in _inside(value, name):
            yield from _walk(item, key, places)


def _inside(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """What a component, a list or a mapping holds, with its field's name; fields of execution left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        types_of = schema.hints(type(value))
        fields = [field.name for field in dataclasses.fields(value) if not schema.is_execution(types_of[field.name])]
        yield from ((field, getattr(value, field)) for field in fields)
    elif isinstance(value, list | tuple):
        yield from ((name if name in DATASETS else "", item) for item in value)
    elif isinstance(value, Mapping):
        yield from ((str(key), item) for key, item in value.items())


def _model(model: Model) -> Iterator[tuple[str, str]]:
    if not model.id.startswith(STAGE):
        yield f"model {model.id}", models.identity(model.id, model.revision)
        base = models.base(model.id)
        if base is not None:
            yield f"base {base}", models.identity(base, None)
    if model.adapter and not model.adapter.startswith(STAGE):
        yield f"adapter {model.adapter}", models.identity(model.adapter, None)


def _dataset(entry: str | Dataset, places: Sequence[Path]) -> Iterator[tuple[str, str]]:
    name = entry if isinstance(entry, str) else entry.dataset
    if name.startswith(STAGE):
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
            known = registry.names(PLUGINS[name], places)
            for each in built_on(str(plugin), known) if name == "reward" else [str(plugin)]:
                if each in known:
                    yield f"{name} {each}", source_digest(known[each])


def _named_file(text: str) -> Iterator[tuple[str, str]]:
    if 0 < len(text) < 500 and "\n" not in text:
        file = Path(text.split("#")[0])
        if file.suffix and file.is_file():
            yield f"file {text.split('#')[0]}", file_digest(file)
