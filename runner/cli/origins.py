"""Where each value of a composed config was said: a file with its line, a default, or the command line.

Hydra's defaults list gives the files in merge order with their packages, YAML nodes give the lines; the last file
that says a key wins, then the overrides.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.types import RunMode

from runner.cli.config_source import SCHEMA, RootSource
from runner.cli.yaml_lines import choices, lines, shown
from runner.core.schema import key_paths
from runner.core.specs import Recipe

if TYPE_CHECKING:
    from runner.cli.compose import Composer

DEFAULT = "default"
COMMAND_LINE = "command line"
SHORT = ("model", "teacher", "against")


def origins(composer: "Composer") -> dict[str, str]:
    """Map each dotted key to its origin: `recipes/x.yaml:7`, `default`, or `command line: optim.lr=1`."""
    found = dict.fromkeys(key_paths(Recipe), DEFAULT)
    listed = composer.loader.compute_defaults_list(composer.config_name, list(composer.overrides), RunMode.RUN)
    chosen = [item for item in listed.defaults if (item.config_path or "").split("/")[0] in RootSource.chosen]
    for default in [*listed.defaults, *chosen]:  # what the command line chose wins over a recipe's body
        file = _file(composer, default.config_path)
        if file is None or (default.config_path or "").startswith("hydra/"):
            continue
        prefix = f"{default.package}." if default.package else ""
        if file.suffix == ".py":
            found[prefix + file.stem] = shown(file)
            continue
        for key, line in lines(file):
            found[prefix + key] = f"{shown(file)}:{line}"
            if prefix + key in SHORT and not any(f"{key}." in other for other, _ in lines(file)):
                found[f"{prefix}{key}.id"] = f"{shown(file)}:{line}"  # `model: ID`
    for override in composer.parsed:
        key = override.get_key_element().lstrip("+~")
        if "." in key or (key in found and key not in RootSource.chosen):
            _say(found, key, override.value(), f"{COMMAND_LINE}: {(override.input_line or '').lstrip('+')}")
    return found


def _say(found: dict[str, str], key: str, value: Any, origin: str) -> None:
    """A mapping is merged, key by key; anything else replaces what was below."""
    found[key] = origin
    if isinstance(value, dict):
        for name, item in value.items():
            _say(found, f"{key}.{name}", item, origin)
    else:
        found.update({other: origin for other in found if other.startswith(key + ".")})


def origin_of_value(found: dict[str, str], key: str) -> str:
    """The origin of a value that is there: as said, or default; of the key above for what no file spells out."""
    return found[key] if key in found else origin_of(found, key) or DEFAULT


def origin_of(found: dict[str, str], key: str) -> str:
    """The origin of a key, or of the nearest key above it."""
    return said(found, key)[1]


def said(found: dict[str, str], key: str) -> tuple[str, str]:
    """A key as the user wrote it, with its origin: a stage's key that comes from a shared layer is that layer's."""
    below = [origin for other, origin in found.items() if other.startswith(key + ".") and origin != DEFAULT]
    if key not in found and below:
        return key, below[0]
    own = _nearest(found, key)
    shared = ".".join(key.split(".")[2:]) if key.startswith("stages.") else ""
    above = _nearest(found, shared)
    whole = own.count(".") > 1 and not any(other.startswith(own + ".") for other in found)  # no mapping that is merged
    if above and not whole and above.count(".") + 2 > own.count("."):
        return shared, found[above]
    return key, found.get(own, "")


def _nearest(found: dict[str, str], key: str) -> str:
    """A key, or the nearest above it, that somebody said; "" where nobody did."""
    steps = key.split(".")
    paths = (".".join(steps[:length]) for length in range(len(steps), 0, -1))
    return next((path for path in paths if found.get(path, DEFAULT) != DEFAULT), "")


def _file(composer: "Composer", config_path: str | None) -> Path | None:
    if config_path is None or config_path == SCHEMA:
        return None
    for source in composer.loader.get_sources():
        if isinstance(source, RootSource):
            if source.is_config(config_path):
                return source.file(config_path) or source.plugin(config_path)
        elif source.scheme() == "file" and source.is_config(config_path):
            return Path(source.path) / f"{config_path.removesuffix('.yaml')}.yaml"
    return None


def option_origin(composer: "Composer", group: str, name: str) -> str:
    """Who chose an option of a group: the command line, or a line of a defaults list. `name` may be "" for any."""
    for word in composer.overrides:
        key, _, value = word.lstrip("+~").partition("=")
        if key.split("@")[0] == group and name in value:
            return COMMAND_LINE
    chosen = [word.partition("=")[2] for word in composer.overrides if word.lstrip("+").startswith("recipe=")]
    names = [
        composer.config_name,
        *(f"recipe/{part.strip()}" for value in chosen for part in value.strip("[]").split(",")),
    ]
    for file in (file for path in names if (file := _file(composer, path))):
        for key, option, line in choices(file):
            if key == group and (option == name or not name):
                return f"{shown(file)}:{line}"
    return ""
