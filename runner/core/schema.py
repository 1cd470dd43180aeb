"""A component is its own schema: a dataclass whose fields are its YAML keys, checked by pydantic.

`@component` marks the dataclass, `build` makes one from a mapping or refuses with the full key path, the wrong
value and a near miss. Nothing unknown is ever ignored, at any depth. pydantic is imported only when building.
"""

import dataclasses
import json
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, dataclass_transform, get_args, get_origin

from runner.core import elsewhere, registry
from runner.core.errors import ConfigError, near_miss

T = TypeVar("T")
MISSING = "???"  # OmegaConf's mark of a value that must be given
EXECUTION = "execution"  # Annotated mark: changes how a run is executed, never what it makes


@dataclass_transform(kw_only_default=True, frozen_default=True)
def component(cls: type[T]) -> type[T]:
    """Turn a class into a frozen keyword-only dataclass that refuses unknown keys and loose types."""
    made = dataclasses.dataclass(frozen=True, kw_only=True)(cls)
    config = {"extra": "forbid", "strict": True, "allow_inf_nan": False}
    setattr(made, "__pydantic_config__", config)  # noqa: B010 - the way pydantic documents
    return made


def build(cls: type[T], values: Mapping[str, Any], key: str = "") -> T:
    """Make a component from its YAML mapping.

    Args:
        values: as composed; "???" counts as absent.
        key: dotted path of the mapping, for messages.

    Raises:
        ConfigError: unknown key, wrong type, out of range, missing or empty value.
    """
    from pydantic import TypeAdapter, ValidationError

    given = _switches(cls, _present(values))
    try:
        # through JSON, because pydantic's strict mode makes nested dataclasses of mappings there and nowhere else
        return TypeAdapter(cls).validate_json(json.dumps(given))
    except ValidationError as error:
        raise _translate(cls, key, error.errors(), given) from None


def _present(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without the keys that OmegaConf marks as missing, at any depth."""
    kept = {name: value for name, value in values.items() if value != MISSING}
    return {name: _present(value) if isinstance(value, Mapping) else value for name, value in kept.items()}


def _switches(cls: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """YAML reads `thinking: on` as true; where a key's choices are words like on and off, make it the word again."""
    made = dict(values)
    for name, hint in hints(cls).items():
        for part in _members(hint) if name in made else ():
            if isinstance(made[name], bool) and get_origin(part) is typing.Literal and "on" in get_args(part):
                made[name] = "on" if made[name] else "off"
            elif isinstance(made[name], Mapping) and dataclasses.is_dataclass(part):
                made[name] = _switches(part, made[name])
    return made


def _translate(cls: type, key: str, errors: list[Any], given: Mapping[str, Any]) -> ConfigError:
    """Turn pydantic's list into one sentence about the mistake that is told most precisely."""
    precise = ("extra_forbidden", "unexpected_keyword_argument")
    first = min(errors, key=lambda e: (e["type"] not in precise, -len(_steps(e, given)), e["type"] == "missing"))
    steps = _steps(first, given)
    path = ".".join(([key] if key else []) + steps)
    value = first.get("input")
    if first["type"] in precise:
        return ConfigError(path, f"no such key (value {as_yaml(value)})", _key_hint(cls, key, steps))
    if first["type"] == "missing":
        return ConfigError(path, "missing", f"Give it a value: {path}=...")
    if value == "":
        return ConfigError(path, "empty", "Give it a value, or leave the key out.")
    beside = [error for error in errors if _steps(error, given) == steps]
    first_reason, *others = dict.fromkeys(_reason(error) for error in beside)
    reason = " or ".join([first_reason, *(other.removeprefix("should be ") for other in others)])
    fix = _value_hint(beside, value) or _form(cls, steps, beside, value)
    return ConfigError(path, f"{reason}, not {as_yaml(_own(cls, steps, value))}", fix)


def _own(cls: type, steps: list[str], value: Any) -> Any:
    """A value without what a component's keys have by default: nobody said that."""
    if not isinstance(value, Mapping):
        return value
    parts = [part for part in _at(cls, steps) if dataclasses.is_dataclass(part)]
    usual = {field.name: field for part in parts for field in dataclasses.fields(part)}

    def said(name: str, item: Any) -> bool:
        field = usual.get(name)
        if field is None:
            return True
        if field.default_factory is not dataclasses.MISSING:
            return bool(item != field.default_factory())
        return bool(field.default is dataclasses.MISSING or item != field.default)

    return {name: item for name, item in value.items() if said(name, item)}


def _at(cls: type, steps: list[str]) -> list[Any]:
    """The types that lie under some keys of a component."""
    inside: list[Any] = [cls]
    for step in steps:
        inside = [inner for hint in inside for inner in _below(hint, step)]
    return inside


def as_yaml(value: Any) -> str:
    """A value as YAML has it, where Python would say otherwise."""
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else repr(value)


def _steps(error: Mapping[str, Any], given: Any) -> list[str]:
    """The keys of an error's place. pydantic puts names of union members between them: the data tells them apart."""
    steps: list[str] = []
    absent = error["loc"][-1] if error["type"] == "missing" else None
    for position, step in enumerate(error["loc"]):
        if isinstance(given, Mapping) and step in given:
            given = given[step]
        elif isinstance(given, list) and isinstance(step, int) and step < len(given):
            given = given[step]
        elif step != absent or position < len(error["loc"]) - 1:
            continue
        steps.append(str(step))
    return steps


def _reason(error: Mapping[str, Any]) -> str:
    text = str(error["msg"]).removeprefix("Input ").removeprefix("Value error, ")
    text = text.replace("an object", "a mapping").replace("a valid array", "a list").replace("a valid string", "text")
    text = text.replace("a valid number", "a number").replace("a valid integer", "a whole number")
    text = text.replace("a valid boolean", "true or false").replace("greater than or equal to", "at least")
    text = text.replace("less than or equal to", "at most")
    return text[:1].lower() + text[1:]


def _value_hint(errors: list[Any], value: Any) -> str:
    for error in errors:
        expected = error.get("ctx", {}).get("expected")
        if isinstance(expected, str) and isinstance(value, str):
            hint = near_miss(value, [word.strip(" '") for word in expected.replace(" or ", ", ").split(",")])
            return hint if hint.startswith("Did") else ""
    return ""


def _form(cls: type, steps: list[str], errors: list[Any], value: Any) -> str:
    """How a value alone is written where a list or a mapping belongs."""
    kinds = {error["type"] for error in errors}
    parts = [part for part in _at(cls, steps) if dataclasses.is_dataclass(part)]
    if kinds == {"dataclass_type"} and not isinstance(value, list | Mapping):
        return f"Its keys: {', '.join(field.name for part in parts for field in dataclasses.fields(part))}."
    return f"Write [{value}]." if "list_type" in kinds and isinstance(value, str) else ""


def _key_hint(cls: type, key: str, steps: list[str]) -> str:
    """Another tool's name for a key, the place where a key of that name exists, or a near miss beside the wrong one."""
    wrong, parents = steps[-1], steps[:-1]
    beside = [
        field.name for part in _at(cls, parents) if dataclasses.is_dataclass(part) for field in dataclasses.fields(part)
    ]
    prefix = ".".join(([key] if key else []) + parents)
    paths = list(key_paths(cls))
    other = elsewhere.told(wrong, paths, key) or ("" if prefix else registry.key_of_stages(wrong))
    if other:
        return other
    exact = next((path for path in paths if path.rsplit(".", 1)[-1] == wrong), None)
    if exact:
        return f"It exists as {key + '.' if key else ''}{exact}."
    hint = near_miss(wrong, beside)
    if hint.startswith("Did you mean"):
        name = hint.removeprefix("Did you mean ").rstrip("?")
        return f"Did you mean {prefix}.{name}?" if prefix else hint
    return hint


def _below(hint: Any, step: str) -> list[Any]:
    """The types that lie under a key or an index of a type."""
    if dataclasses.is_dataclass(hint):
        return _members(hints(hint)[step]) if step in hints(hint) else []
    if get_origin(hint) in (list, dict):
        return _members(get_args(hint)[-1])
    return []


def hints(cls: Any) -> dict[str, Any]:
    """The types of a component's fields, ClassVars left out, Annotated kept."""
    names = {field.name for field in dataclasses.fields(cls)}
    return {name: hint for name, hint in typing.get_type_hints(cls, include_extras=True).items() if name in names}


def key_paths(cls: Any, prefix: str = "") -> Iterator[str]:
    """Every dotted key of a component, nested components included."""
    for name, hint in hints(cls).items():
        yield prefix + name
        for part in _members(hint):
            if dataclasses.is_dataclass(part):
                yield from key_paths(part, f"{prefix}{name}.")


def execution_keys(cls: Any, prefix: str = "") -> Iterator[str]:
    """The dotted keys that are execution only; a component all of whose keys are counts as a whole."""
    for name, hint in hints(cls).items():
        nested = [part for part in _members(hint) if dataclasses.is_dataclass(part)]
        below = [key for part in nested for key in execution_keys(part, f"{prefix}{name}.")]
        if is_execution(hint) or (nested and len(below) == sum(len(hints(part)) for part in nested)):
            yield prefix + name
        yield from below


def open_keys(cls: Any, prefix: str = "") -> Iterator[str]:
    """The dotted keys under which a user may write names of their own."""
    for name, hint in hints(cls).items():
        if any(get_origin(part) is dict or part is dict for part in _members(hint)):
            yield prefix + name
        for part in _members(hint):
            if dataclasses.is_dataclass(part):
                yield from open_keys(part, f"{prefix}{name}.")


def _members(hint: Any) -> list[Any]:
    bare = _bare(hint)
    if get_origin(bare) in (typing.Union, types.UnionType):
        return [_bare(argument) for argument in get_args(bare)]
    return [bare]


def _bare(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is typing.Annotated else hint


def is_execution(hint: Any) -> bool:
    """Whether a field is marked as execution only."""
    return get_origin(hint) is typing.Annotated and EXECUTION in get_args(hint)[1:]


def defaults(cls: Any) -> dict[str, Any]:
    """The default of every key as plain data; a required key is "???"."""
    found: dict[str, Any] = {}
    types_of = hints(cls)
    for field in dataclasses.fields(cls):
        nested = [part for part in _members(types_of[field.name]) if dataclasses.is_dataclass(part)]
        if field.default is not dataclasses.MISSING:
            found[field.name] = plain(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            made = field.default_factory()
            found[field.name] = defaults(type(made)) if dataclasses.is_dataclass(made) else plain(made)
        else:
            found[field.name] = defaults(nested[0]) if nested else MISSING
    return found


def plain(value: Any) -> Any:
    """A component as mappings, lists and scalars."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def identity(value: Any) -> Any:
    """As `plain`, without the keys that are execution only."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        types_of = hints(type(value))
        return {
            field.name: identity(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if not is_execution(types_of[field.name])
        }
    if isinstance(value, Mapping):
        return {key: identity(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [identity(item) for item in value]
    return value
