"""Where each value of a composed config was said: a file with its line, a default, or the command line.

Hydra's defaults list gives the files in merge order with their packages, YAML nodes give the lines; the last file
that says a key wins, then the overrides.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode

from runner.cli.compose import Composer
from runner.cli.config_source import SCHEMA, RootSource
from runner.core.schema import key_paths
from runner.core.specs import Recipe

DEFAULT = "default"


def origins(composer: Composer) -> dict[str, str]:
    """Map each dotted key to its origin: `recipes/x.yaml:7`, `default`, or `command line: optim.lr=1`."""
    found = dict.fromkeys(key_paths(Recipe), DEFAULT)
    listed = composer.loader.compute_defaults_list(composer.config_name, list(composer.overrides), RunMode.RUN)
    for default in listed.defaults:
        file = _file(composer, default.config_path)
        if file is None or default.config_path.startswith("hydra/"):
            continue
        prefix = f"{default.package}." if default.package else ""
        for key, line in _lines(file):
            _say(found, prefix + key, f"{shown(file)}:{line}")
    for override in OverridesParser.create().parse_overrides(list(composer.overrides)):
        key = override.get_key_element().lstrip("+~")
        if "/" not in key and key in found or "." in key:
            _say(found, key, f"command line: {(override.input_line or '').lstrip('+')}")
    return found


def _say(found: dict[str, str], key: str, origin: str) -> None:
    found[key] = origin
    if not origin.startswith("command line"):
        return
    for below in [other for other in found if other.startswith(key + ".")]:
        found[below] = origin


def origin_of(found: dict[str, str], key: str) -> str:
    """The origin of a key; of the nearest key above it, or of the layer that a stage inherits it from."""
    below = [origin for other, origin in found.items() if other.startswith(key + ".") and origin != DEFAULT]
    if key not in found and below:
        return below[0]
    steps = key.split(".")
    for length in range(len(steps), 0, -1):
        path = ".".join(steps[:length])
        if path in found and found[path] != DEFAULT:
            return found[path]
    if steps[0] == "stages" and len(steps) > 2:
        return origin_of(found, ".".join(steps[2:]))
    return ""


def shown(file: Path) -> str:
    """A path as short as it is clear: relative to the working directory where it lies below."""
    here = Path.cwd()
    return str(file.relative_to(here)) if file.is_relative_to(here) else str(file)


def _file(composer: Composer, config_path: str | None) -> Path | None:
    if config_path is None or config_path == SCHEMA:
        return None
    for source in composer.loader.get_sources():
        if isinstance(source, RootSource):
            if source.is_config(config_path):
                return source.file(config_path)
        elif source.scheme() == "file" and source.is_config(config_path):
            return Path(source.path) / f"{config_path.removesuffix('.yaml')}.yaml"
    return None


def _lines(file: Path) -> Iterator[tuple[str, int]]:
    """Every key of a YAML file with its line, mappings before what they hold."""
    node = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    yield from _walk(node, "")


def _walk(node: Any, prefix: str) -> Iterator[tuple[str, int]]:
    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            key = f"{prefix}{key_node.value}"
            if key == "defaults":
                continue
            yield key, key_node.start_mark.line + 1
            yield from _walk(value_node, key + ".")
    elif isinstance(node, yaml.SequenceNode):
        for position, item in enumerate(node.value):
            yield f"{prefix}{position}", item.start_mark.line + 1
            yield from _walk(item, f"{prefix}{position}.")
