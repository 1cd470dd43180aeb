"""Where things are looked for: the user's folder in front, the package behind it.

A root holds `conf/`, `recipes/` and `plugins/`. The package's own root is the checkout, or, once installed
from a wheel, the package folder itself, which carries the three folders as data.
"""

import os
from collections.abc import Sequence
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent


def package_root() -> Path:
    """The folder that holds the shipped conf/, recipes/ and plugins/."""
    return PACKAGE if (PACKAGE / "conf").is_dir() else PACKAGE.parent


def cache_folder() -> Path:
    """What may be deleted at any time: $RUNNER_CACHE, else $XDG_CACHE_HOME/runner, else ~/.cache/runner."""
    own, shared = os.environ.get("RUNNER_CACHE"), os.environ.get("XDG_CACHE_HOME")
    return Path(own) if own else Path(shared or Path.home() / ".cache") / "runner"


def roots(config_dir: str | None = None, plugins_path: str | None = None) -> list[Path]:
    """Search roots, first one wins: --config-dir or the working directory, plugins_path, the package."""
    found: list[Path] = []
    for place in (config_dir or os.getcwd(), plugins_path, package_root()):
        if place and Path(place).resolve() not in found:
            found.append(Path(place).resolve())
    return found


def with_plugins(places: Sequence[Path], plugins_path: str | None) -> tuple[Path, ...]:
    """The roots of a command line, and among them the `plugins_path` that the recipe says itself."""
    place = Path(plugins_path).resolve() if plugins_path else None
    return tuple(places) if place is None or place in places else (places[0], place, *places[1:])


def expanded(name: str) -> Path:
    """What a name on the command line means as a path: `~` is a home, or stands for itself where there is no such user,
    of which `Path.expanduser` makes an error.
    """
    return Path(os.path.expanduser(name))
