"""Answers a shell that completes a `runner` command line: verbs, kinds of `list`, groups, options, recipes, keys.

The shell's side is Hydra's own (`eval "$(runner -sc install=bash)"`, likewise zsh and fish); the answer is ours:
Hydra knows neither verbs nor `recipe=x` without a plus sign. A line that does not compose gets no answer, never noise.
"""

import os
import re

from hydra.errors import HydraException
from hydra.plugins.completion_plugin import DefaultCompletionPlugin
from omegaconf.errors import OmegaConfBaseException

from runner.cli.argv import VERBS, split
from runner.cli.compose import composer
from runner.cli.list import KINDS
from runner.core.errors import RunnerError

_APP = re.compile(r"^\s*(?:\S*python[\d.]*\s+-m\s+runner|\S+)\s?")


def query() -> int:
    """Print the candidates for $COMP_LINE, one a line."""
    line = os.environ.get("COMP_LINE", "")
    point = os.environ.get("COMP_POINT", "")
    for candidate in candidates(_APP.sub("", line[: int(point)] if point.isdigit() else line)):
        print(candidate)
    return 0


def candidates(line: str) -> list[str]:
    """What may come next on a command line, its program left out."""
    words = line.split()
    partial = "" if line.endswith(" ") or not words else words.pop()
    verb = words.pop(0) if words and words[0] in VERBS else ""
    if verb == "list":
        return [kind for kind in KINDS if kind.startswith(partial)]
    if verb in ("diff", "rerun", "schema"):
        return []  # folders: the shell completes them itself
    first = [word for word in VERBS if word.startswith(partial)] if not words and not verb else []
    found = _hydra(words, partial)
    return first + ([word.removesuffix("=") for word in found] if verb == "explain" and "=" not in partial else found)


def _hydra(words: list[str], partial: str) -> list[str]:
    try:
        flags, overrides = split(words)
        made = composer([*flags, *(word for word in overrides if "=" in word or word.startswith("~"))])
        line = " ".join([*made.overrides, partial]) if partial else " ".join(made.overrides) + " "
        return [str(word) for word in DefaultCompletionPlugin(made.loader)._query(made.config_name, line)]
    except (RunnerError, HydraException, OmegaConfBaseException):
        return []
