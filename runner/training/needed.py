"""Packages that a training asks for by its keys: looked for before its data is read, not after an hour of it."""

import importlib.util

from runner.core.errors import ConfigError
from runner.core.specs import Log, Optim


def check(optim: Optim, log: Log) -> None:
    """Refuse what cannot run here.

    Raises:
        ConfigError: a package that an optimizer or a tracker needs is not installed.
    """
    if optim.name == "adamw_8bit":
        _look("optim.name", optim.name, "bitsandbytes")
    for tracker in log.trackers:
        _look("log.trackers", tracker, tracker)


def _look(key: str, value: str, package: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise ConfigError(
            key, f"{value!r} needs the package {package}, which is not installed", f"pip install {package}"
        )
