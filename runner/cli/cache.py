"""`runner cache`: which encoded mixes are kept, how large, when last used; `runner cache clear [KEY ...]` removes them.

`--older-than DAYS` removes only what was not used for so long. What is removed is encoded again when it is needed.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from runner.core.errors import ConfigError
from runner.data import cache

DAY = 24 * 3600


def main(words: Sequence[str], places: Sequence[Path]) -> int:
    """List the entries, or remove some.

    Raises:
        ConfigError: a word that means nothing, or a key that no entry has.
    """
    if not words:
        return _list()
    if words[0] != "clear":
        raise ConfigError(
            "cache", f"cannot do {words[0]!r}", "Write `runner cache`, or `runner cache clear [KEY ...]`."
        )
    keys, days = _flags(words[1:])
    missing = [key for key in keys if not any(entry.key.startswith(key) for entry in cache.entries())]
    if missing:
        raise ConfigError("cache clear", f"no entry {missing[0]!r}", "`runner cache` lists them.")
    gone = cache.clear(set(keys) if keys else None, days * DAY)
    print(f"{len(gone)} entries removed, {_size(sum(entry.size for entry in gone))}")
    return 0


def _flags(words: Sequence[str]) -> tuple[list[str], float]:
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False, exit_on_error=False)
    parser.add_argument("--older-than", type=float, default=0.0)
    try:
        found, keys = parser.parse_known_args(list(words))
    except argparse.ArgumentError as error:
        raise ConfigError("command line", f"--older-than: {error.message}", "Give a number of days.") from None
    if not 0 <= found.older_than < float("inf"):
        raise ConfigError("command line", f"--older-than: {found.older_than:g} is no age", "Give a number of days.")
    wrong = [key for key in keys if key.startswith("-")]
    if wrong:
        raise ConfigError("command line", f"cache clear takes no flag {wrong[0]}", "It takes --older-than DAYS.")
    return keys, found.older_than


def _ago(seconds: float) -> str:
    for length, name in ((DAY, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {name}{'s' if count > 1 else ''} ago"
    return "just now"


def _list() -> int:
    held = cache.entries()
    for entry in held:
        about = entry.about
        used = _ago(time.time() - entry.used)
        figures = f"{about['rows']:>9,} rows {about['tokens']:>14,} tokens {_size(entry.size):>10}  used {used}"
        print(f"{entry.key} {figures}  {', '.join(about['datasets'])}")
    print(f"{cache.place()}: {len(held)} entries, {_size(sum(entry.size for entry in held))}")
    return 0


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
