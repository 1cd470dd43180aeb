"""A plugin's source with the modules of the working directory that it imports: an edit of one changes what it does.

Found in the source text; nothing is imported. Installed packages, this one among them, do not count.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

from runner.core.content import digest
from runner.core.places import PACKAGE


def source(file: Path) -> bytes:
    """A plugin's text, and behind it that of what it imports."""
    return b"".join(each.read_bytes() for each in _with_imported(file))


def source_digest(file: Path) -> str:
    """Of all that text."""
    return digest(source(file))


def _with_imported(file: Path) -> list[Path]:
    found = [file.resolve()]
    for one in found:  # grows meanwhile
        places = dict.fromkeys(place.resolve() for place in _places(one))
        found += [place for place in places if place.is_file() and place not in found]
    return found


def _places(file: Path) -> Iterator[Path]:
    """Where the modules that a file imports would lie."""
    try:
        nodes = list(ast.walk(ast.parse(file.read_bytes())))
    except (SyntaxError, ValueError):
        return
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _of(Path.cwd(), alias.name)
        elif isinstance(node, ast.ImportFrom):
            top = file.parents[min(node.level, len(file.parents)) - 1] if node.level else Path.cwd()
            for alias in node.names:
                yield from _of(top, ".".join(filter(None, (node.module, alias.name))))


def _of(top: Path, name: str) -> Iterator[Path]:
    """The files of a.b.c: packages on the way, and the module itself."""
    steps = name.split(".")
    if top / steps[0] == PACKAGE:
        return
    for count in range(1, len(steps) + 1):
        place = top.joinpath(*steps[:count])
        yield place / "__init__.py"
        yield place.with_name(f"{place.name}.py")
