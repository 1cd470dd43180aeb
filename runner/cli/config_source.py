"""Gives Hydra its configs: from the user's folder first, then from the package, without symlinks or copies.

For a root folder ROOT the group `recipe` is ROOT/recipes, every other group is ROOT/conf/GROUP (or ROOT/GROUP, as in
a stock Hydra folder), and `reward/NAME` and `loss_scale/NAME` exist as soon as ROOT/plugins holds a file of that name.
The config `schema` is made from runner/core/specs.py: every key with its default, so that Hydra knows them all.
Short forms in a recipe's body (`model: ID`, `loss_scale: [a, b]`, `reward: [a]`) are spelled out here.
"""

from pathlib import Path
from typing import Any

import yaml
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from omegaconf import DictConfig, ListConfig, OmegaConf

from runner.core import schema
from runner.core.errors import ConfigError
from runner.core.places import package_root
from runner.core.specs import Recipe

PLUGIN_GROUPS = {"reward": "rewards", "loss_scale": "loss_scales"}
SCHEMA = "schema"


class RootSource(ConfigSource):
    """One search root: `runner:///path`."""

    def __init__(self, provider: str, path: str) -> None:
        super().__init__(provider, path)
        self.root = Path(self.path)

    @staticmethod
    def scheme() -> str:
        """The prefix of this source's paths in the search path."""
        return "runner"

    def available(self) -> bool:
        """Whether the root is there."""
        return self.root.is_dir()

    def load_config(self, config_path: str) -> ConfigResult:
        """Read a YAML file, or make what has none: the schema, and the choice of a plugin."""
        path = config_path.removesuffix(".yaml")
        file = self.file(path)
        if file is not None:
            text = file.read_text(encoding="utf-8")
            return self._result(_spelled_out(_parsed(file, text)), _header(path, text))
        if path == SCHEMA and self._is_package():
            return self._result(OmegaConf.create(schema.defaults(Recipe)), {"package": None})
        if self.plugin(path) is not None:
            return self._result(OmegaConf.create({path.rsplit("/", 1)[-1]: {}}), {"package": None})
        raise ConfigLoadError(f"Config not found: {path}")

    def _result(self, config: Any, header: dict[str, Any]) -> ConfigResult:
        return ConfigResult(config=config, path=self.full_path(), provider=self.provider, header=header)

    def _is_package(self) -> bool:
        return self.root == package_root()

    def _folders(self, group: str) -> list[Path]:
        first, _, rest = group.partition("/")
        if first == "recipe":
            return [self.root / "recipes" / rest, self.root / "conf" / "recipe" / rest, self.root / group]
        return [self.root / "conf" / group] + ([self.root / group] if group else [])

    def file(self, path: str) -> Path | None:
        """The YAML file of a config, if it has one."""
        group, _, name = path.rpartition("/")
        candidates = [folder / f"{name}.yaml" for folder in self._folders(group)]
        if not group and not self._is_package():
            candidates.append(self.root / f"{name}.yaml")
        return next((file for file in candidates if file.is_file()), None)

    def plugin(self, path: str) -> Path | None:
        """The plugin file that makes a config exist without a YAML file."""
        group, _, name = path.rpartition("/")
        file = self.root / "plugins" / PLUGIN_GROUPS.get(group, group) / f"{name}.py"
        return file if group in PLUGIN_GROUPS and not name.startswith("_") and file.is_file() else None

    def is_group(self, config_path: str) -> bool:
        """Whether a group of that name has anything in this root."""
        if not config_path:
            return True
        plugins = self.root / "plugins" / PLUGIN_GROUPS.get(config_path, "-")
        return any(folder.is_dir() for folder in self._folders(config_path)) or plugins.is_dir()

    def is_config(self, config_path: str) -> bool:
        """Whether a config of that name can be loaded from this root."""
        path = config_path.removesuffix(".yaml")
        return self.file(path) is not None or self.plugin(path) is not None or (path == SCHEMA and self._is_package())

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """The options of a group in this root, so that a mistyped one can be answered with the choices."""
        found: set[str] = set()
        folders = [folder for folder in self._folders(config_path) if folder.is_dir()]
        for entry in (entry for folder in folders for entry in folder.iterdir()):
            if entry.suffix == ".yaml" and results_filter != ObjectType.GROUP:
                found.add(entry.stem)
            if entry.is_dir() and not entry.name.startswith((".", "__")) and results_filter != ObjectType.CONFIG:
                found.add(entry.name)
        if config_path == "" and results_filter != ObjectType.CONFIG and (self.root / "recipes").is_dir():
            found.add("recipe")
        if config_path in PLUGIN_GROUPS and results_filter != ObjectType.GROUP:
            files = (self.root / "plugins" / PLUGIN_GROUPS[config_path]).glob("*.py")
            found |= {file.stem for file in files if not file.name.startswith("_")}
        return sorted(found)


def _header(path: str, text: str) -> dict[str, Any]:
    """The `# @package` line among the leading comments; a recipe is global without saying so."""
    found: dict[str, Any] = {"package": "_global_" if path.startswith("recipe/") else None}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            break
        words = line.lstrip("# ").split()
        if len(words) == 2 and words[0] == "@package":
            found["package"] = words[1]
    return found


def _parsed(file: Path, text: str) -> Any:
    try:
        return OmegaConf.create(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError("", f"{file}:{line}: is not YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise ConfigError("", f"{file}: is not YAML: {error}") from None


def _spelled_out(config: Any) -> Any:
    """Turn short forms into mappings, because Hydra merges a list or a string over a mapping by replacing or failing."""
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
