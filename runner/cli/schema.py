"""`runner schema [FOLDER]`: JSON schema of recipes and of every config group, for editors, written to .runner/schema.

A file of yours names its schema in a comment, as the shipped ones do:

    # yaml-language-server: $schema=../.runner/schema/recipe.json

The schema is made from the same dataclasses that check a recipe, the kinds of stages that are found among them. Keys
are all optional there, because a recipe is a short list of differences, and `${...}` may stand for any value.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runner.cli.argv import without_places
from runner.core import registry, schema, specs
from runner.core.artifact import write_whole
from runner.core.errors import ConfigError

FOLDER = Path(".runner/schema")
GROUPS = {
    "model": specs.Model, "dataset": specs.KnownDataset, "mix": specs.Mix, "train_type": specs.TrainType,
    "parallelism": specs.Parallelism, "backend": specs.Backend,
}  # fmt: skip
LATER = {"type": "string", "pattern": r"\$\{.+\}|^\?\?\?$"}  # an interpolation, or a value to be given
DEFAULTS = {"type": "array", "items": {"type": ["string", "object"]}, "description": "Hydra's defaults list."}
SHORT = ("model", "teacher", "against")


def main(words: Sequence[str], places: Sequence[Path]) -> int:
    """Write the schemas, say where.

    Raises:
        ConfigError: no folder.
    """
    words = without_places("schema", words)
    folder = Path(words[0]) if words else FOLDER
    if len(words) > 1 or (folder.exists() and not folder.is_dir()):
        raise ConfigError("schema", f"{' '.join(words)!r} is no folder", "Write `runner schema`, or name one.")
    folder.mkdir(parents=True, exist_ok=True)
    for name, made in schemas(places).items():
        write_whole(folder / f"{name}.json", json.dumps(made, indent=1, ensure_ascii=False) + "\n")
        print(folder / f"{name}.json")
    return 0


def schemas(places: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Schema by file name: `recipe`, `config`, and one a config group."""
    made = {"recipe": recipe(places), "stage": _stage_file(places)}
    made |= {group: _file(_of(cls)) for group, cls in GROUPS.items()}
    made |= {"reward": _file(_named(_of(specs.Reward))), "loss_scale": _file(_named({"type": ["object", "null"]}))}
    return made


def comment(file: Path) -> str:
    """The line that a config file should hold, so that editors find its schema. file: relative to the root."""
    parts = file.parts
    name = "recipe" if parts[0] == "recipes" or len(parts) == 2 else parts[1]
    return f"# yaml-language-server: $schema={'../' * (len(parts) - 1)}{FOLDER}/{name}.json"


def recipe(places: Sequence[Path]) -> dict[str, Any]:
    """The schema of recipes/*.yaml and of the root config."""
    made = _of(specs.Recipe)
    properties = made["properties"]
    properties["hydra"] = {"type": "object", "description": "Hydra's own settings."}
    for name in SHORT:
        if name in properties:
            properties[name] = {
                "anyOf": [{"type": "string", "description": "A model's id or folder."}, properties[name]]
            }
    items = {"anyOf": [{"type": "string"}, {"type": "object"}]}
    properties["reward"] = {"anyOf": [properties["reward"], {"type": "array", "items": items}]}
    _add_stages(made, places)
    return _file(made)


def _stage_file(places: Sequence[Path]) -> dict[str, Any]:
    made: dict[str, Any] = {"$defs": {}, "properties": {}}
    _add_stages(made, places)
    return _file({**made["properties"]["stages"]["additionalProperties"], "$defs": made["$defs"]})


def _add_stages(made: dict[str, Any], places: Sequence[Path]) -> None:
    """`stages.*` as a union told apart by `kind`; without one (it comes from `/stage@...`) any key may stand."""
    choices = []
    for kind in registry.names("stages", places):
        own = _of(registry.load("stages", kind, places))
        made["$defs"].update(own.pop("$defs", {}))
        own["properties"]["kind"] = {"const": kind}
        for name in SHORT:
            if name in own["properties"]:
                own["properties"][name] = {"anyOf": [{"type": "string"}, own["properties"][name]]}
        made["$defs"][f"stage_{kind}"] = own
        condition = {"properties": {"kind": {"const": kind}}, "required": ["kind"]}
        choices.append({"if": condition, "then": {"$ref": f"#/$defs/stage_{kind}"}})
    kinds = {"properties": {"kind": {"enum": list(registry.names("stages", places))}}}
    stage = {"type": "object", **kinds, "allOf": choices} if choices else {"type": "object"}
    made["properties"]["stages"] = {"type": "object", "additionalProperties": stage}


def _of(cls: Any) -> dict[str, Any]:
    """pydantic's schema of a component, softened: every key optional, `${...}` for any value."""
    from pydantic import TypeAdapter

    made: dict[str, Any] = TypeAdapter(cls).json_schema()
    if "$ref" in made:
        name = made["$ref"].rsplit("/", 1)[-1]
        made = {**made["$defs"][name], "$defs": made["$defs"]}
    defaults = schema.defaults(cls)
    softened: dict[str, Any] = _softened(made)
    for name, part in softened.get("properties", {}).items():
        if name in defaults and defaults[name] != schema.MISSING and isinstance(part, dict):
            part.setdefault("default", defaults[name])
    return softened


def _softened(part: Any) -> Any:
    """A schema without what is required, and without the titles that pydantic makes of names."""
    if isinstance(part, list):
        return [_softened(item) for item in part]
    if not isinstance(part, dict):
        return part
    made = {key: item for key, item in part.items() if key not in ("required", "title")}
    for key in made:
        if key in ("properties", "$defs"):
            made[key] = {name: _softened(item) for name, item in made[key].items()}
        elif key not in ("default", "enum", "const"):
            made[key] = _softened(made[key])
    if "properties" in made:
        made["properties"] = {name: _or_later(item) for name, item in made["properties"].items()}
    return made


def _or_later(part: Any) -> Any:
    if not isinstance(part, dict) or (part.get("type") == "string" and "enum" not in part):
        return part
    if set(part.get("enum", ())) & {"on", "off"}:
        part = {**part, "enum": [*part["enum"], True, False]}  # YAML reads on and off so
        part.pop("type", None)
    told = {key: part.pop(key) for key in ("description", "default") if key in part}
    choices = part["anyOf"] if set(part) == {"anyOf"} else [part]
    return {**told, "anyOf": [*choices, LATER]}


def _named(inner: dict[str, Any]) -> dict[str, Any]:
    """A mapping of names to settings."""
    definitions = inner.pop("$defs", {})
    return {
        "type": "object",
        "additionalProperties": {"anyOf": [inner, {"type": "null"}]},
        "properties": {},
        "$defs": definitions,
    }


def _file(made: dict[str, Any]) -> dict[str, Any]:
    """A whole file: the keys, and a defaults list."""
    made.setdefault("properties", {})["defaults"] = DEFAULTS
    return {"$schema": "http://json-schema.org/draft-07/schema#", **made}
