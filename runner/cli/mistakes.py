"""Turns the exceptions of Hydra and OmegaConf into one sentence: file and line, or command line, key, near miss."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.object_type import ObjectType
from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import OmegaConfBaseException

from runner.cli.origins import COMMAND_LINE, option_origin, origins, said
from runner.cli.yaml_lines import shown
from runner.core import elsewhere, registry
from runner.core.errors import ConfigError, RunnerError, near_miss
from runner.core.schema import key_paths
from runner.core.specs import Recipe

if TYPE_CHECKING:
    from runner.cli.compose import Composer

UNCHOSEN = "no option of it is chosen before"


def told(error: BaseException, composer: "Composer") -> BaseException:
    """The exception as our sentence; what is not the user's mistake is left as it is."""
    if isinstance(error, ConfigError):
        return error if error.placed or not error.key else _placed(error, composer)
    if isinstance(error, RunnerError):
        return error
    if isinstance(error, MissingConfigException):
        return _no_such_option(error, composer)
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _refused(error, composer)
    if isinstance(error, ValueError) and str(error).startswith("Config group override must be"):
        return ConfigError("", f"{COMMAND_LINE}: an option of a group is chosen by its name, which is text")
    if isinstance(error, RecursionError):
        return ConfigError("defaults", "lists of recipes or configs that name each other in a circle")
    return error


def _placed(error: ConfigError, composer: "Composer") -> ConfigError:
    """The error under the key that the user wrote, with the place where it was written."""
    try:
        key, origin = said(origins(composer), error.key)
    except (HydraException, OmegaConfBaseException):
        return error.at("")  # the config does not compose, and that is the mistake being told
    same = origin.startswith(f"{COMMAND_LINE}: {key}=")
    written = key if key == error.key else f"{key} (stage {error.key.split('.')[1]})"
    return ConfigError(written, error.problem, error.fix).at(COMMAND_LINE if same else origin)


def _no_such_option(error: MissingConfigException, composer: "Composer") -> ConfigError:
    missing = str(error.missing_cfg_file or "")
    group, _, name = missing.rpartition("/")
    if not group:
        sources = composer.loader.get_sources()
        known = {name for source in sources for name in source.list("", ObjectType.CONFIG) if not name.startswith("_")}
        return ConfigError("--config-name", f"no config named {name!r}", near_miss(name, known))
    if group.startswith("recipe/"):
        group, name = "recipe", missing.removeprefix("recipe/")
    options = composer.loader.get_group_options(group, ObjectType.CONFIG)  # Hydra tells none for an item of a list
    fix = near_miss(name, options) or _all(options)
    if group == "model" and not fix.startswith("Did"):
        fix += " Else a folder that is there, or a hub id (org/name)."
    if group.startswith("hydra/") and not fix.startswith("Did"):
        fix += f" A package of Hydra's may bring it: pip install hydra-{name}-{group.removeprefix('hydra/')}."
    made = ConfigError(group, f"no {group.replace('_', ' ')} named {name!r}", fix)
    return made.at(option_origin(composer, group, name))


def _all(options: Sequence[str]) -> str:
    return f"Choices: {', '.join(options)}." if options else "There are none at all."


def _refused(error: BaseException, composer: "Composer") -> ConfigError:
    """A key that is not there, a value that does not parse, a group used wrongly."""
    cause = error.__cause__ if not str(error).strip() and error.__cause__ else error
    text = str(cause)
    unread = re.match(r"Error parsing override '(.*)'\n([^\n]*)", text, re.DOTALL)
    if unread:
        return ConfigError("", f"{COMMAND_LINE}: {unread[1]}: cannot be read: {unread[2]}")
    unlike = re.match(r"Error merging override \W*([^=]+)=(.)", text)
    if unlike:
        shapes = {"[": "should be a mapping, not a list", "{": "should be a list, not a mapping"}
        return ConfigError(unlike[1], shapes.get(unlike[2], "no such place in that list")).at(COMMAND_LINE)
    if text.startswith(("LexerNoViable", "no viable alternative")):
        fix = "A text with marks of its own stands in quotes: \"key='it is, so'\"."
        return ConfigError("", f"{COMMAND_LINE}: {_unreadable(text, composer)}: cannot be read", fix)
    match = re.search(r"(?:override|append to config. An item is already at|delete from config\.)\s*'([^']+)'", text)
    key = match[1].rstrip(".") if match else ""
    missing = re.search(r"Missing mandatory value: (\S+)", text)
    if missing:
        return ConfigError(
            missing[1], "missing", f"Choose a recipe (+recipe=NAME); a sweep over several needs {missing[1]}=..."
        )
    if text.startswith(("In '", "In recipe/")) or "raised while composing" in text:
        return _in_file(text, composer)
    word = next((word for word in composer.overrides if key and word.lstrip("+~").split("=")[0] == key), "")
    value = word.partition("=")[2].strip("'")
    if "more than once" in text:
        twice = text.split(" ")[0]
        return ConfigError(twice, "said more than once", f"Several together are {twice}=[a,b].").at(COMMAND_LINE)
    if "@" in key:
        return ConfigError(key, "no such group in that place", f"To add it: +{key}={value}.").at(COMMAND_LINE)
    if "An item is already at" in text:
        return ConfigError(key, "is there already", f"Write {key}={value} without the plus sign.").at(COMMAND_LINE)
    if key and "Could not delete" in text:
        return ConfigError(f"~{key}", _undeletable(key, text), key_hint(key)).at(COMMAND_LINE)
    if "Ambiguous value for argument" in text:
        key, _, value = text.split("'")[1].partition("=")
        fix = f"To sweep over it add -m; a list is {key}=[{value}]; a text with a comma is {key}='{value}' in quotes."
        return ConfigError(key, f"several values ({value})", fix).at(COMMAND_LINE)
    if key:
        return _no_such_key(key, value, composer).at(COMMAND_LINE)
    return ConfigError("", f"{COMMAND_LINE}: {_one_line(text)}")


def _no_such_key(key: str, value: str, composer: "Composer") -> ConfigError:
    options = [] if "." in key else composer.loader.get_group_options(key, ObjectType.CONFIG)
    if options:
        fix = f"Write +{key}={value}." if value in options else near_miss(value, options)
        return ConfigError(key, f"{UNCHOSEN} (value {value!r})", fix)
    return ConfigError(key, f"no such key (value {value!r})" if value else "no such key", key_hint(key))


def _unreadable(text: str, composer: "Composer") -> str:
    """The override that Hydra's grammar stumbled over; it tells the whole of some, the beginning of others."""
    start = text.split("\n")[0].partition(": " if text.startswith("Lexer") else "input ")[2].strip("'")
    return next((word for word in composer.overrides if start and start in word), start)


def _undeletable(key: str, text: str) -> str:
    return "no such key" if "does not exist" in text else f"cannot be deleted. {_one_line(text)}"


def _in_file(text: str, composer: "Composer") -> ConfigError:
    """Hydra names the config ("In 'recipe/x': ..."); we name its file, and the key with a near miss."""
    path = text.removeprefix("In ").lstrip("'").partition(":")[0].rstrip("'")
    files = [source.file(path) for source in composer.loader.get_sources() if hasattr(source, "file")]
    file = next((shown(file) for file in files if file), path)
    full_key = re.search(r"full_key: (\S+)", text)
    problem = re.sub(r"^In '?[^':]*'?: (\w+ raised while composing config:)?\s*", "", text)
    named = re.search(r"override '([^']+)'", problem)
    if named:
        known = {path.split(".")[0] for path in key_paths(Recipe)} | {"recipe", "hydra/launcher", "hydra/sweeper"}
        hint = near_miss(named[1], known)
        made = ConfigError(named[1], "no such group to override", hint if hint.startswith("Did") else "")
        if composer.loader.get_group_options(named[1], ObjectType.CONFIG):
            made = ConfigError(named[1], UNCHOSEN, f"Write `- /{named[1]}: NAME`, above all that override.")
        return made.at(option_origin(composer, named[1], "") or file)
    return ConfigError(full_key[1] if full_key else "", _one_line(problem.split("\n")[0])).at(file)


def _one_line(text: str) -> str:
    return " ".join(line.strip() for line in text.split("\n") if line.strip()).rstrip(".")


def unresolved(error: OmegaConfBaseException, key: str) -> ConfigError:
    """An interpolation that leads nowhere, a missing value, a missing environment variable."""
    text = str(error).strip().split("\n")[0].rstrip(".")
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


def key_hint(key: str) -> str:
    """The key that was probably meant: by another tool's name, by its last word, or by its full path."""
    known: list[Any] = list(key_paths(Recipe))
    other = elsewhere.told(key, known)
    if not other and key.partition(".")[0] not in known:
        other = registry.key_of_stages(key)
    if other:
        return other
    last = key.rsplit(".", 1)[-1]
    exact = [path for path in known if path.rsplit(".", 1)[-1] == last]
    hint = near_miss(key, known)
    if hint.startswith("Did") and (not exact or hint.endswith(f"{last}?")):
        return hint
    return f"It exists as {exact[0]}." if exact else ""
