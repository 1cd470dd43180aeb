"""`runner explain [KEY ...]`: every value, and the file and line, the override or the default that set it.

An interpolation is shown as two hops: where it is written, then where the key it leads to was set. What a stage
inherits from a shared layer is explained under the stage too: `explain stages.train.optim.lr`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from runner.cli.compose import Composer, resolved
from runner.cli.origins import DEFAULT, origin_of_value, origins
from runner.core import registry
from runner.core.errors import ConfigError, near_miss
from runner.core.places import with_plugins
from runner.terminal import screen

_TARGET = re.compile(r"\$\{([\w.]+)\}")


@dataclass(frozen=True)
class Line:
    """One value. via: (interpolation, what it leads to, who set that), one a hop."""

    key: str
    value: Any
    origin: str
    via: tuple[tuple[str, Any, str], ...] = ()


def explained(composer: Composer, keys: Sequence[str]) -> list[Line]:
    """The lines for the keys asked for, and all that lies below them; every key when none is given.

    Raises:
        ConfigError: no such key, with the nearest.
    """
    config = composer.compose()
    values = resolved(config)
    found = origins(composer)
    known = {key: _line(config, found, key, value) for key, value in _leaves(values)}
    inherited = {line.key: line for line in _inherited(values, found, composer) if line.key not in known}
    if not keys:
        return list(known.values())
    lines: list[Line] = []
    for wanted in keys:
        every = {**known, **inherited}
        below = [line for key, line in every.items() if key == wanted or key.startswith(wanted + ".")]
        if not below:
            raise ConfigError(wanted, "no such key", _hint(wanted, every)).at("command line")
        lines += below
    return lines


def _hint(wanted: str, known: Mapping[str, Any]) -> str:
    hint = near_miss(wanted, {key for leaf in known for key in _parents(leaf)})
    if hint.startswith("Did"):
        return hint
    elsewhere = [key for key in known if key.rsplit(".", 1)[-1] == wanted.rsplit(".", 1)[-1]]
    return f"It exists as {elsewhere[0]}." if elsewhere else ""


def _parents(key: str) -> Iterator[str]:
    steps = key.split(".")
    yield from (".".join(steps[:length]) for length in range(1, len(steps) + 1))


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Scalars, lists of scalars and empty mappings are leaves; lists of mappings are walked."""
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from _leaves(item, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        for position, item in enumerate(value):
            yield from _leaves(item, f"{key}.{position}")
    else:
        yield key, value


def _line(config: DictConfig, found: dict[str, str], key: str, value: Any) -> Line:
    node = _raw(config, key)
    hops = tuple(
        (f"${{{target}}}", OmegaConf.select(config, target, default=None), origin_of_value(found, target))
        for target in (_TARGET.findall(node) if isinstance(node, str) else ())
    )
    return Line(key, value, _origin(found, key, node if hops else None), hops)


def _origin(found: dict[str, str], key: str, written: Any) -> str:
    origin = origin_of_value(found, key)
    return f"{origin} ({written})" if written is not None else origin


def _raw(config: Any, key: str) -> Any:
    """The value as written, its interpolation not followed."""
    node = config
    for step in key.split("."):
        if not OmegaConf.is_config(node):
            return None
        node = node._get_node(int(step) if OmegaConf.is_list(node) else step)
    return node._value() if node is not None and not OmegaConf.is_config(node) else None


def _inherited(values: Mapping[str, Any], found: dict[str, str], composer: Composer) -> Iterator[Line]:
    """What stages take from the shared layers."""
    from runner.plan import fill

    places = with_plugins(composer.places, values.get("plugins_path"))
    for name, own in (values.get("stages") or {}).items():
        if not isinstance(own, Mapping) or "kind" not in own:
            continue
        kind = registry.load("stages", str(own["kind"]), places, f"stages.{name}.kind")
        for key, value in _leaves(fill(values, own, kind)):
            yield Line(f"stages.{name}.{key}", value, f"{origin_of_value(found, key)} (from {key})")


def show(lines: Sequence[Line]) -> None:
    """Print key, value and origin in columns; hops below the value that they belong to."""
    styled = screen().color_system is not None
    keys = max((len(line.key) for line in lines), default=0)
    width = min(40, max((len(_short(line.value)) for line in lines), default=0))
    for line in lines:
        text = f"{line.key:<{keys}}  {_short(line.value):<{width}}  {line.origin}"
        dim = styled and line.origin.startswith(DEFAULT)
        print(f"\033[2m{text}\033[0m" if dim else text)
        for written, value, origin in line.via:
            print(f"{'':<{keys}}    {written} = {_short(value)}  {origin}")


def _short(value: Any) -> str:
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    text = text.replace("\n", "\\n")
    return text if len(text) <= 60 else f"{text[:57]}..."
