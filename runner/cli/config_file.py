"""Reads one config file: text, YAML, `# @package` line; spells out short forms, refuses shapes that cannot merge.

Short forms of a recipe's body: `model: ID`, `loss_scale: [a, b]`, `reward: [a]`. Refused, with file and line: what is
not UTF-8 or not YAML, a list where a mapping belongs, a broken interpolation.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runner.cli.yaml_lines import lines, shown
from runner.core import schema
from runner.core.errors import ConfigError
from runner.core.specs import Recipe

PLUGIN_GROUPS = {"reward": "rewards", "loss_scale": "loss_scales"}


def known_keys() -> dict[str, Any]:
    """Every key with its default. `loss_scale` is empty here, so that a recipe's rules replace the default rule."""
    return {**schema.defaults(Recipe), "loss_scale": {}}


def read_text(file: Path) -> str:
    """The text of a config file.

    Raises:
        ConfigError: it is not UTF-8, or cannot be read.
    """
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError("", f"{shown(file)}: is not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise ConfigError("", f"{shown(file)}: cannot be read: {error.strerror}") from None


def header(path: str, text: str) -> dict[str, Any]:
    """The `# @package` line among the leading comments; a recipe is global without saying so."""
    found: dict[str, Any] = {"package": "_global_" if path.startswith("recipe/") else None}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            break
        words = line.lstrip("# ").split()
        if len(words) == 2 and words[0] == "@package":
            found["package"] = words[1]
    return found


def parsed(file: Path, text: str) -> Any:
    """The text as a mapping of OmegaConf's.

    Raises:
        ConfigError: it is not YAML, no mapping, or holds an interpolation that cannot be read.
    """
    try:
        config = OmegaConf.create(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = "a tab, where YAML takes spaces" if r"'\t'" in str(error.problem) else error.problem
        raise ConfigError("", f"{shown(file)}:{line}: is not YAML: {problem}") from None
    except yaml.YAMLError as error:
        raise ConfigError("", f"{shown(file)}: is not YAML: {error}") from None
    except OmegaConfBaseException as error:
        key, what = error.full_key or "", str(error).split("\n")[0]
        unread = ConfigError(str(key), f"an interpolation that cannot be read: {what}")
        raise unread.at(place(file, str(key))) from None
    if not isinstance(config, DictConfig):
        raise ConfigError("", f"{shown(file)}: should hold keys and values, not a {'list' if config else 'text'}")
    if len(config) == 1 and ":" not in text:  # OmegaConf takes a text alone for a key
        raise ConfigError("", f"{shown(file)}: should hold keys and values, not a text alone")
    if not isinstance(config._get_node("defaults"), ListConfig | None):
        raise ConfigError(
            "defaults", "should be a list", "Write `defaults:` and below it `- override /model: NAME`."
        ).at(shown(file))
    return config


def place(file: Path, key: str) -> str:
    """A file with the line of a key."""
    return next((f"{shown(file)}:{line}" for name, line in lines(file) if name == key), shown(file))


def refuse_shape(file: Path, config: DictConfig, package: str) -> None:
    """Refuse a list where a mapping belongs, and the other way round, which OmegaConf cannot merge."""
    known: Any = known_keys()
    for step in package.split(".") if package not in ("", "_global_") else ():
        known = known.get(step, {}) if isinstance(known, dict) else {}
    wrong = _wrong_shape(config, known, "") if isinstance(known, dict) else None
    if wrong:
        key, expected = wrong
        full = f"{package}.{key}" if package not in ("", "_global_") else key
        raise ConfigError(full, f"should be {expected}").at(place(file, key))


def _wrong_shape(config: DictConfig, known: Mapping[str, Any], prefix: str) -> tuple[str, str] | None:
    for key in map(str, config):
        node, base = config._get_node(key), known.get(key)
        if isinstance(base, dict) and isinstance(node, ListConfig):
            return f"{prefix}{key}", "a mapping, not a list"
        if isinstance(base, list) and isinstance(node, DictConfig):
            return f"{prefix}{key}", "a list, not a mapping"
        if isinstance(base, dict) and isinstance(node, DictConfig) and not node._is_none():
            found = None if node._is_missing() else _wrong_shape(node, base, f"{prefix}{key}.")
            if found:
                return found
    return None


def subtract(config: DictConfig, said: DictConfig) -> None:
    """Take from `config` every key that `said` says too."""
    for key in [key for key in said if key in config and key != "defaults"]:
        inner, other = config._get_node(key), said._get_node(key)
        if isinstance(inner, DictConfig) and isinstance(other, DictConfig):
            subtract(inner, other)
        else:
            del config[key]


def spelled_out(config: Any) -> Any:
    """Turn short forms into mappings: Hydra merges a list or a string over a mapping by replacing or failing."""
    if not isinstance(config, DictConfig):
        return config
    for key in ("model", "teacher", "against"):
        if isinstance(config._get_node(key), DictConfig | ListConfig) or not isinstance(config.get(key), str):
            continue
        config[key] = {"id": config[key]}
    for key in PLUGIN_GROUPS:
        node = config._get_node(key)
        if isinstance(node, ListConfig):
            config[key] = _named(OmegaConf.to_container(node, resolve=False))
    return config


def _named(entries: Any) -> dict[str, Any]:
    """`[a, {b: {x: 1}}]` as `{a: {}, b: {x: 1}}`."""
    named: dict[str, Any] = {}
    for entry in entries:
        named.update(entry if isinstance(entry, dict) else {str(entry): {}})
    return named
