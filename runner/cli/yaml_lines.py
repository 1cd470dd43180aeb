"""On which line of a YAML file each key stands, and a path as a person would write it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def lines(file: Path) -> Iterator[tuple[str, int]]:
    """Every dotted key of a YAML file with its line, mappings before what they hold; the defaults list is left out."""
    yield from _walk(yaml.compose(file.read_text(encoding="utf-8-sig"), Loader=_LOADER), "")


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


def choices(file: Path) -> Iterator[tuple[str, str, int]]:
    """What the defaults list of a YAML file chooses, as (group without package, option, line)."""
    root = yaml.compose(file.read_text(encoding="utf-8-sig"), Loader=_LOADER)
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    items = [item for key, value in pairs if key.value == "defaults" for item in value.value]
    for item in (item for item in items if isinstance(item, yaml.MappingNode)):
        for key, value in item.value:
            group = key.value.removeprefix("override ").removeprefix("optional ").lstrip("/").split("@")[0]
            options = value.value if isinstance(value, yaml.SequenceNode) else [value]
            yield from ((group, option.value, option.start_mark.line + 1) for option in options)


def shown(file: Path) -> str:
    """A path as short as it is clear: relative to the working directory where it lies below."""
    here = Path.cwd()
    return str(file.relative_to(here)) if file.is_relative_to(here) else str(file)
