"""Which other rewards a reward asks, found in its source text: `reward("accuracy")`. Nothing is imported."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

DOOR = "runner.api"


def built_on(name: str, known: Mapping[str, Path]) -> list[str]:
    """The reward itself, the rewards that it names, and those that they name.

    Args:
        known: every reward's file. Names that are not there, and files that do not parse, name nothing.
    """
    found = [name]
    for one in found:  # grows meanwhile
        found += sorted(_named(known[one]) - set(found)) if one in known else []
    return found


def _named(file: Path) -> set[str]:
    try:
        nodes = list(ast.walk(ast.parse(file.read_bytes())))
    except (SyntaxError, ValueError):
        return set()
    asking = set(_asking(nodes))
    return {
        str(given.value)
        for node in nodes
        if isinstance(node, ast.Call) and ast.unparse(node.func) in asking
        for given in [*node.args, *(keyword.value for keyword in node.keywords)]
        if isinstance(given, ast.Constant)
    }


def _asking(nodes: list[ast.AST]) -> Iterator[str]:
    """How the file calls the door's `reward`."""
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module == DOOR:
            yield from (alias.asname or alias.name for alias in node.names if alias.name == "reward")
        elif isinstance(node, ast.ImportFrom) and node.module == "runner":
            yield from (f"{alias.asname or alias.name}.reward" for alias in node.names if alias.name == "api")
        elif isinstance(node, ast.Import):
            yield from (f"{alias.asname or alias.name}.reward" for alias in node.names if alias.name == DOOR)
