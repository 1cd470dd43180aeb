"""Gives Hydra its configs: from the user's folder first, then from the package, without symlinks or copies.

For a root folder ROOT the group `recipe` is ROOT/recipes, every other group is ROOT/conf/GROUP (or ROOT/GROUP, as in
a stock Hydra folder), and `reward/NAME` and `loss_scale/NAME` exist as soon as ROOT/plugins holds a file of that name.
The config `schema` is made from runner/core/specs.py: every key with its default, so that Hydra knows them all.
What the command line chooses of a group wins over a recipe's body, which Hydra alone would merge last. A file is read
once: editing it while a sweep runs changes no later job.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from omegaconf import DictConfig, OmegaConf

from runner.cli.config_file import (
    PLUGIN_GROUPS,
    header,
    known_keys,
    parsed,
    place,
    read_text,
    refuse_shape,
    spelled_out,
    subtract,
)
from runner.cli.yaml_lines import shown
from runner.core.errors import ConfigError
from runner.core.places import package_root

SCHEMA = "schema"
_KEYS = known_keys()


class Texts(dict[Path, str]):
    """What was read, shared by the copies that Hydra makes of its sources for each composition."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "Texts":
        return self


class RootSource(ConfigSource):
    """One search root: `runner:///path`. Set before Hydra starts: all `places`, and what the command line chose.

    chosen: group -> options, of overrides such as `train_type=full`.
    """

    places: ClassVar[Sequence[Path]] = ()
    chosen: ClassVar[Mapping[str, Sequence[str]]] = {}

    def __init__(self, provider: str, path: str) -> None:
        super().__init__(provider, path)
        self.root = Path(self.path)
        self._chosen, self._places = dict(self.chosen), tuple(self.places)  # workers get the object, not the class
        self._texts = Texts()

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
            text = self._texts[file] if file in self._texts else self._texts.setdefault(file, read_text(file))
            written, head = parsed(file, text), header(path, text)
            if path.startswith("recipe/"):
                self._refuse_choices(file, written)
            config = spelled_out(written)
            if path.startswith("recipe/") and not config:
                raise ConfigError("", f"{shown(file)}: is empty", "A recipe has a name, a model and stages.")
            refuse_shape(file, config, head["package"] or path.rpartition("/")[0])
            return self._result(self._without_chosen(config, path), head)
        if path == SCHEMA and self._is_package():
            return self._result(OmegaConf.create(known_keys()), {"package": None})
        if self.plugin(path) is not None:
            return self._result(OmegaConf.create({path.rsplit("/", 1)[-1]: {}}), {"package": None})
        raise ConfigLoadError(f"Config not found: {path}")

    def _result(self, config: Any, header: dict[str, Any]) -> ConfigResult:
        return ConfigResult(config=config, path=self.full_path(), provider=self.provider, header=header)

    def _refuse_choices(self, file: Path, written: DictConfig) -> None:
        """Refuse `train_type: qlora` in a recipe's body, with where it is chosen; a model's may be a folder's name."""
        body: Any = OmegaConf.to_container(written, resolve=False)
        for key, value in body.items():
            if not isinstance(value, str) or Path(value).is_dir():
                continue
            if any(RootSource("", f"runner://{root}").is_config(f"{key}/{value}") for root in self._places):
                fix = f"Write under `defaults:` `- override /{key}: {value}`."
                raise ConfigError(key, f"{value!r} is a choice, and not made here", fix).at(place(file, key))

    def _without_chosen(self, config: Any, path: str) -> Any:
        """A recipe without what the command line chose otherwise: `train_type=full` over `train_type: {kind: lora}`."""
        if not path.startswith("recipe/") or not isinstance(config, DictConfig):
            return config
        for group in (group for group in self._chosen if OmegaConf.is_config(config._get_node(group))):
            if group in PLUGIN_GROUPS:
                del config[group]
                continue
            for option in self._chosen[group]:
                subtract(config[group], self._said(f"{group}/{option}"))
        return config

    def _said(self, path: str) -> Any:
        """What an option says, in the root that wins."""
        files = [RootSource("", f"runner://{place}").file(path) for place in self._places]
        file = next((file for file in files if file), None)
        return parsed(file, read_text(file)) if file else OmegaConf.create({})

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
        if not isinstance(_KEYS.get(config_path, {}), dict):
            return False  # seed=5 beside a folder called seed
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
            if entry.suffix == ".yaml" and entry.is_file() and results_filter != ObjectType.GROUP:
                found.add(entry.stem)
            if entry.is_dir() and not entry.name.startswith((".", "__")) and results_filter != ObjectType.CONFIG:
                found.add(entry.name)
        if config_path == "" and results_filter != ObjectType.CONFIG and (self.root / "recipes").is_dir():
            found.add("recipe")
        if config_path in PLUGIN_GROUPS and results_filter != ObjectType.GROUP:
            files = (self.root / "plugins" / PLUGIN_GROUPS[config_path]).glob("*.py")
            found |= {file.stem for file in files if not file.name.startswith("_")}
        return sorted(found)
