"""`runner list [KIND]`: what there is to choose from, where it lies, and what hides what."""

import sys
from collections.abc import Sequence
from pathlib import Path

from runner.cli.argv import without_places
from runner.core import registry
from runner.core.errors import ConfigError, PluginError, near_miss

GROUPS = ("models", "mixes", "datasets", "train_types", "parallelisms", "backends")
PLUGINS = ("rewards", "loss_scales", "formats", "stages")
FOLDERS = {"mixes": "mix", "recipes": "recipe"}
KINDS = ("recipes", *GROUPS, *PLUGINS)


def entries(kind: str, places: Sequence[Path]) -> list[tuple[str, str, str]]:
    """(name, description, note) of every choice; the note tells of a file that is hidden by one in front."""
    found: dict[str, tuple[str, str]] = {}
    seen: set[Path] = set()  # what lies in the package belongs to every place
    for place in places:
        for name, file in _files(kind, place).items():
            if file in seen:
                continue
            seen.add(file)
            if name in found:
                front = found[name]
                found[name] = (front[0], f"hides {file}")
            else:
                found[name] = (_description(kind, name, file, places), "")
    return [(name, *found[name]) for name in sorted(found)]


def _files(kind: str, place: Path) -> dict[str, Path]:
    if kind in ("formats", "stages"):
        return registry.names(kind, [place])
    folder = place / "recipes" if kind == "recipes" else place / "conf" / FOLDERS.get(kind, kind.removesuffix("s"))
    written = {file.stem: file for file in sorted(folder.glob("*.yaml")) if file.is_file()}
    return {**registry.names(kind, [place]), **written} if kind in PLUGINS else written


def _description(kind: str, name: str, file: Path, places: Sequence[Path]) -> str:
    if file.suffix == ".yaml":
        return first_comment(file)
    if kind in ("rewards", "loss_scales"):
        try:
            return registry.signature(kind, name, places).description or first_comment(file)
        except PluginError as error:  # the others are there all the same
            return f"({error})"
    text = file.read_text(encoding="utf-8", errors="replace").lstrip()
    return registry.first_sentence(text[3:].split('"""')[0]) if text.startswith('"""') else first_comment(file)


def first_comment(file: Path) -> str:
    """The first comment line of a file that is not a directive; of a broken one what can be read of it."""
    try:
        lines = file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError as error:
        return f"({error.strerror})"
    for line in lines:
        text = line.lstrip("#").strip()
        if line.startswith("#") and text and not text.startswith(("@", "yaml-language-server")):
            return text
        if line and not line.startswith("#"):
            break
    return ""


def _kind(word: str) -> str:
    """A kind by its name, or by that of its group: model, mix, parallelism."""
    names = {**{name.removesuffix("s"): name for name in KINDS}, **{group: name for name, group in FOLDERS.items()}}
    if word not in KINDS and word not in names:
        raise ConfigError("list", f"no kind named {word!r}", near_miss(word, KINDS))
    return names.get(word, word)


def main(words: Sequence[str], places: Sequence[Path]) -> int:
    """Print one kind, or all of them.

    Raises:
        ConfigError: no such kind or flag.
    """
    for kind in [_kind(word) for word in without_places("list", words)] or KINDS:
        listed = entries(kind, places)
        print(kind if listed else f"{kind}: none")
        width = max((len(name) for name, _, _ in listed), default=0)
        for name, description, note in listed:
            sys.stdout.write(f"  {name:<{width}}  {description}{f'  ({note})' if note else ''}".rstrip() + "\n")
    return 0
