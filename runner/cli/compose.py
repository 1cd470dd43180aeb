"""Composes a recipe by Hydra's own loader, for verbs and runs alike, and turns its mistakes into one sentence.

Nothing is written here. Search roots are added by a SearchPathPlugin, so that everything of Hydra that reads the
search path (`--info`, completion, sweeps) sees the same configs.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runner.cli import argv
from runner.cli.config_source import RootSource
from runner.core.errors import ConfigError, RunnerError, near_miss
from runner.core.places import roots
from runner.core.schema import key_paths, open_keys
from runner.core.specs import Recipe


class RootsPlugin(SearchPathPlugin):
    """Puts the search roots into Hydra's search path. `places` is set before Hydra starts."""

    places: Sequence[Path] = ()

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append the user's root, then the package's."""
        for position, place in enumerate(self.places):
            provider = "package" if position == len(self.places) - 1 else "user"
            search_path.append(provider, f"runner://{place}")


@dataclass(frozen=True)
class Composer:
    """One command line. `flags` and `overrides` are as `argv.kind` leaves them."""

    flags: tuple[str, ...]
    overrides: tuple[str, ...]
    places: tuple[Path, ...]

    @property
    def config_name(self) -> str:
        """The primary config; `--config-name` of the user's wins."""
        return argv.option(self.flags, "--config-name", "-cn") or "config"

    @cached_property
    def loader(self) -> ConfigLoaderImpl:
        """Hydra's loader over the search roots, with `--config-path` in front where it is given."""
        return ConfigLoaderImpl(create_config_search_path(argv.option(self.flags, "--config-path", "-cp")))

    def compose(self) -> DictConfig:
        """The composed config, `hydra` node included."""
        try:
            return self.loader.load_configuration(self.config_name, list(self.overrides), RunMode.RUN)
        except Exception as error:
            raise told(error, self) from error

    def values(self) -> dict[str, Any]:
        """The composed config as plain data, interpolations resolved."""
        return resolved(self.compose())


def composer(arguments: Sequence[str]) -> Composer:
    """Read the command line and make the search roots known to Hydra."""
    config_dir = argv.option(arguments, "--config-dir", "-cd")
    if config_dir and not Path(config_dir).is_dir():
        raise ConfigError("--config-dir", f"no folder {config_dir!r}", "Give the folder that holds conf/ or recipes/.")
    places = tuple(roots(config_dir, argv.option(arguments, "plugins_path")))
    version.setbase("1.3")
    RootsPlugin.places = places
    for plugin in (RootSource, RootsPlugin):
        Plugins.instance().register(plugin)
    models = {name for place in places for name in RootSource("", f"runner://{place}").list("model", ObjectType.CONFIG)}
    flags, overrides = argv.split(argv.kind(arguments, models, tuple(open_keys(Recipe))))
    return Composer(tuple(flags), tuple(overrides), places)


def resolved(config: DictConfig) -> dict[str, Any]:
    """Plain data without the `hydra` node.

    Raises:
        ConfigError: an interpolation that leads nowhere, a missing environment variable.
    """
    values: dict[str, Any] = {}
    for key in (key for key in config if key != "hydra"):
        try:
            node = config._get_node(key)
            plain = OmegaConf.is_config(node)
            values[str(key)] = OmegaConf.to_container(node, resolve=True) if plain else _scalar(config, str(key))
        except OmegaConfBaseException as error:
            raise _unresolved(error, str(key)) from error
    return values


def _unresolved(error: OmegaConfBaseException, key: str) -> ConfigError:
    text = _first_line(error)
    variable = re.search(r"Environment variable '([^']+)' not found", text)
    if variable:
        fix = f"Export it, or write ${{oc.env:{variable[1]},DEFAULT}}."
        return ConfigError(error.full_key or key, f"the environment variable {variable[1]} is not set", fix)
    missing = re.search(r"Missing mandatory value: (\S+)", text)
    if missing:
        return ConfigError(missing[1], "missing", f"Choose a recipe (+recipe=NAME), or give it: {missing[1]}=...")
    target = re.search(r"Interpolation key '([^']+)' not found", text)
    if target:
        return ConfigError(error.full_key or key, f"leads to {target[1]!r}, which is no key", key_hint(target[1]))
    return ConfigError(error.full_key or key, text)


def _scalar(config: DictConfig, key: str) -> Any:
    return "???" if OmegaConf.is_missing(config, key) else config[key]


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")


def told(error: BaseException, composer: Composer) -> BaseException:
    """Hydra's exception as our sentence; what is neither Hydra's nor OmegaConf's is left as it is."""
    from hydra.errors import HydraException, MissingConfigException

    if isinstance(error, RunnerError):
        return error
    if isinstance(error, MissingConfigException):
        return _no_such_option(error)
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _bad_override(error, composer)
    return error


def _no_such_option(error: Any) -> ConfigError:
    missing = str(error.missing_cfg_file or "")
    group, _, name = missing.rpartition("/")
    options = list(error.options or [])
    if not group:
        return ConfigError("", _first_line(error))
    return ConfigError(group, f"no {group.replace('_', ' ')} named {name!r}", near_miss(name, options) or _all(options))


def _all(options: Sequence[str]) -> str:
    return f"Choices: {', '.join(options)}." if options else ""


def _bad_override(error: BaseException, composer: Composer) -> ConfigError:
    """A key that is not there, a value that does not parse, a group used wrongly."""
    cause = error.__cause__ if not str(error).strip() and error.__cause__ else error
    text = str(cause)
    match = re.search(r"Could not (?:override|append to|delete from)[^']*'([^']+)'", text)
    key = match[1] if match else ""
    if key and ("is not in struct" in text + str(cause.__cause__) or "not found" in text):
        value = next((word.split("=", 1)[1] for word in composer.overrides if word.lstrip("+~").startswith(key + "=")), "")
        return ConfigError(key, f"no such key (value {value!r})", key_hint(key))
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    return ConfigError("", " ".join(lines).rstrip("."))


def key_hint(key: str) -> str:
    """The key that was probably meant, by its full path or by its last word."""
    known = list(key_paths(Recipe))
    hint = near_miss(key, known)
    if hint.startswith("Did"):
        return hint
    last = key.rsplit(".", 1)[-1]
    elsewhere = [path for path in known if path.rsplit(".", 1)[-1] == last]
    return f"It exists as {elsewhere[0]}." if elsewhere else ""
