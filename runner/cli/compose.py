"""Composes a recipe by Hydra's own loader, for verbs, runs and notebooks alike. Nothing is written here.

Search roots are added by a SearchPathPlugin, so that everything of Hydra that reads the search path (`--info`,
completion, sweeps) sees the same configs. In a notebook or a test:

    from runner.cli.compose import composer
    values = composer(["+recipe=quickstart", "optim.lr=1e-5"]).values()

or, after `ready()`, Hydra's own `initialize_config_module("runner")` and `compose("config", overrides=[...])`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runner.cli import argv
from runner.cli.config_source import RootSource
from runner.cli.job_folder import register
from runner.cli.mistakes import key_hint, told, unresolved
from runner.core.errors import ConfigError, near_miss
from runner.core.places import roots
from runner.core.schema import key_paths, open_keys
from runner.core.specs import Recipe

# What Hydra reads as a number, a truth or nothing, standing alone or in a list.
_NO_TEXT = re.compile(
    r"(?:^|(?<=[\[(,]))\s*(null|true|false|[+-]?(?:inf|nan|[\d_.]+(?:e[+-]?\d+)?))\s*(?=$|[,\])])", re.I
)


class RootsPlugin(SearchPathPlugin):
    """Puts the search roots into Hydra's search path."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append the user's root, then the package's."""
        for position, place in enumerate(RootSource.places):
            provider = "package" if position == len(RootSource.places) - 1 else "user"
            search_path.append(provider, f"runner://{place}")


@dataclass(frozen=True)
class Composer:
    """One command line. `flags` and `overrides` are as `argv.kind` leaves them."""

    flags: tuple[str, ...]
    overrides: tuple[str, ...]
    places: tuple[Path, ...]
    shared_loader: ConfigLoaderImpl | None = None

    @property
    def config_name(self) -> str:
        """The primary config; `--config-name` of the user's wins."""
        return argv.option(self.flags, "--config-name", "-cn") or "config"

    @cached_property
    def loader(self) -> ConfigLoaderImpl:
        """Hydra's loader over the search roots, with `--config-path` in front where it is given."""
        return self.shared_loader or ConfigLoaderImpl(
            create_config_search_path(argv.option(self.flags, "--config-path", "-cp"))
        )

    @cached_property
    def parsed(self) -> list[Override]:
        """The overrides as Hydra's grammar reads them."""
        return OverridesParser.create(self.loader).parse_overrides(list(self.overrides))

    def compose(self) -> DictConfig:
        """The composed config, `hydra` node included.

        Raises:
            RunnerError: the mistake, with its file and line or the word of the command line that made it.
        """
        try:
            return self.loader.load_configuration(self.config_name, list(self.overrides), RunMode.RUN)
        except Exception as error:
            raise told(error, self) from error

    def values(self) -> dict[str, Any]:
        """The composed config as plain data, interpolations resolved."""
        try:
            return resolved(self.compose())
        except ConfigError as error:
            raise told(error, self) from error


def ready(places: Sequence[Path] | None = None, chosen: Mapping[str, Sequence[str]] | None = None) -> None:
    """Make our search roots known to Hydra; the working directory and the package when none are given."""
    version.setbase("1.3")
    register()
    RootSource.places, RootSource.chosen = tuple(places or roots()), chosen or {}
    for plugin in (RootSource, RootsPlugin):
        Plugins.instance().register(plugin)


def composer(arguments: Sequence[str]) -> Composer:
    """Read a command line and make its search roots known to Hydra.

    Raises:
        ConfigError: a flag that does not exist, a word that is no override, no such folder.
    """
    places = argv.places(arguments)
    ready(places)
    models, recipes = _options("model", places), _options("recipe", places)
    flags, overrides = argv.split(argv.kind(arguments, models, tuple(open_keys(Recipe))))
    _refuse_flags(flags)
    _refuse_values(flags)
    argv.refuse_words(overrides, recipes)
    overrides = [_by_name(word, places) for word in overrides]
    RootSource.chosen = _chosen(overrides, places)
    return Composer(tuple(flags), tuple(overrides), places)


def _options(group: str, places: Sequence[Path]) -> set[str]:
    return {name for place in places for name in RootSource("", f"runner://{place}").list(group, ObjectType.CONFIG)}


def _refuse_flags(flags: Sequence[str]) -> None:
    known = [name for name in get_args_parser()._option_string_actions if name not in ("-h", "--help")]
    for word in (word.split("=")[0] for word in flags if word.startswith("-")):
        if word not in known:
            name = word.lstrip("-")
            key = f"Keys have no dashes: {name}=..." if name in key_paths(Recipe) else key_hint(name)
            near = near_miss(word, [name for name in known if name.startswith("--")])
            fix = near if near.startswith("Did") else ""
            raise ConfigError("command line", f"no flag {word}", fix if key.startswith("Did") else key or fix)


def _is_group(name: str, places: Sequence[Path]) -> bool:
    return any(RootSource("", f"runner://{place}").is_group(name) for place in places)


def _by_name(word: str, places: Sequence[Path]) -> str:
    """`+recipe=2024` chooses the file of that name: a number, true or null is quoted, as Hydra takes text alone."""
    key, mark, value = word.partition("=")
    if mark and "." not in key and _is_group(key.lstrip("+~").split("@")[0], places):
        value = _NO_TEXT.sub(lambda found: f"'{found[1]}'", value)
    return f"{key}{mark}{value}"


def _refuse_values(flags: Sequence[str]) -> None:
    """Refuse what `--cfg` and `--info`, which know a few words, do not know."""
    actions = get_args_parser()._option_string_actions
    for place, flag in enumerate(flags):
        word, mark, value = flag.partition("=")
        choices = actions[word].choices if word in actions else None
        value = value if mark or choices is None else flags[place + 1]
        if choices and value not in choices:
            raise ConfigError("command line", f"{word} cannot show {value!r}", near_miss(value, map(str, choices)))


def _chosen(overrides: Sequence[str], places: Sequence[Path]) -> dict[str, list[str]]:
    """What the command line chooses of which group: `train_type=full`, `reward=[a,b]`, `model=x,y` of a sweep."""
    chosen: dict[str, list[str]] = {}
    for key, value in (word.split("=", 1) for word in overrides if "=" in word):
        group = key.lstrip("+")
        if group != "recipe" and "." not in group and _is_group(group, places):
            chosen[group] = [name.strip(" '\"") for name in value.strip("[]()").removeprefix("choice(").split(",")]
    return chosen


def resolved(config: DictConfig) -> dict[str, Any]:
    """Plain data without the `hydra` node; the default rule where no loss scale is said.

    Raises:
        ConfigError: an interpolation that leads nowhere, a missing environment variable.
    """
    values: dict[str, Any] = {}
    for key in (key for key in config if key != "hydra"):
        try:
            node = config._get_node(key)
            plain = OmegaConf.is_config(node)
            values[str(key)] = OmegaConf.to_container(node, resolve=True) if plain else _scalar(config, key)
        except OmegaConfBaseException as error:
            raise unresolved(error, str(key)) from error
    if values.get("loss_scale") == {}:
        values["loss_scale"] = ["default"]
    return values


def _scalar(config: DictConfig, key: Any) -> Any:
    return "???" if OmegaConf.is_missing(config, key) else config[key]
