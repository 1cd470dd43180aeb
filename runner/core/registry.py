"""Finds components by file name: `plugins/rewards/accuracy.py` is the reward `accuracy`, nothing else to register.

A kind is a folder: stages, formats, algorithms, backends, engines, rewards, loss_scales. The user's `plugins/KIND`
is looked in first, then the shipped `plugins/KIND`, then `runner/KIND`. Signatures of plugin functions are read
from their source text, so that planning never imports what a plugin imports.
"""

import ast
import importlib
import importlib.util
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.core.errors import ConfigError, PluginError, first_line, near_miss
from runner.core.places import PACKAGE, roots

_looked_in: tuple[Path, ...] = ()  # where nothing else is said; empty: this folder and the package


@dataclass(frozen=True)
class Signature:
    """What a plugin function asks for.

    columns: keywords without default, each a column of the data. params: keywords with default, as source text.
    """

    name: str
    description: str
    columns: tuple[str, ...]
    params: tuple[tuple[str, str], ...]
    takes_all_columns: bool
    is_async: bool


def look_in(places: Sequence[Path]) -> None:
    """From now on this process looks in these roots where it is not told others: a plugin that asks for another one
    does not know where the run looks."""
    global _looked_in
    _looked_in = tuple(places)


def names(kind: str, places: Sequence[Path] = ()) -> dict[str, Path]:
    """Every component of a kind with its file; a user's file hides a shipped one of the same name."""
    found: dict[str, Path] = {}
    folders = [root / "plugins" / kind for root in (places or _looked_in or roots())] + [PACKAGE / kind]
    for folder in folders:
        for file in sorted(folder.glob("*.py")):
            if not file.name.startswith("_") and file.is_file():
                found.setdefault(file.stem, file)
    return dict(sorted(found.items()))


def find(kind: str, name: str, places: Sequence[Path] = (), key: str = "") -> Path:
    """The file of a component.

    Raises:
        ConfigError: no file of that name; the nearest name is told.
    """
    known = names(kind, places)
    if name not in known:
        raise ConfigError(
            key or kind, f"no {kind.rstrip('s').replace('_', ' ')} named {name!r}", near_miss(name, known)
        )
    return known[name]


def load(kind: str, name: str, places: Sequence[Path] = (), key: str = "") -> Any:
    """Import the file of a component and return the component: the function or class that bears the file's name."""
    file = find(kind, name, places, key)
    module = _import(kind, name, file)
    wanted = (name, "".join(part.capitalize() for part in name.split("_")))
    for member in wanted:
        if hasattr(module, member):
            return getattr(module, member)
    raise PluginError(f"{file}: defines neither {' nor '.join(sorted({*wanted}))}. Name it like the file.")


def _import(kind: str, name: str, file: Path) -> Any:
    if file.parent == PACKAGE / kind:
        return importlib.import_module(f"runner.{kind}.{name}")
    title = f"runner_plugins_{kind}_{name}"  # without dots: pickle finds it, for a pool of processes that it starts
    spec = importlib.util.spec_from_file_location(title, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[title] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a plugin may raise anything while it is imported
        said = f"{type(error).__name__}: {first_line(error)}" if str(error) else type(error).__name__
        raise PluginError(f"{file}: cannot be imported: {said}.") from error
    return module


def key_of_stages(key: str) -> str:
    """What is said to a key at the top of a recipe that stages alone have, or nothing."""
    first = key.partition(".")[0]
    kinds = [name for name in names("stages") if first in getattr(load("stages", name), "__dataclass_fields__", ())]
    return f"A stage says it: stages.NAME.{first} (kinds: {', '.join(kinds)})." if kinds else ""


def signature(kind: str, name: str, places: Sequence[Path] = (), key: str = "") -> Signature:
    """Read a plugin function's signature without importing it.

    Raises:
        PluginError: the file does not parse, has no function of its name, or one that takes no data.
    """
    file = find(kind, name, places, key)
    try:
        tree = ast.parse(file.read_bytes(), filename=str(file))  # bytes: Python itself knows marks and encodings
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        raise PluginError(f"{file}{f':{line}' if line else ''}: is not Python: {error}.") from None
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            return _signature(node, tree, file)
    raise PluginError(f"{file}: has no function named {name}. Name it like the file.")


def first_sentence(text: str) -> str:
    """Of a docstring, on one line: what a list of components says about one."""
    paragraph = " ".join(text.strip().split("\n\n")[0].split())
    return re.split(r"(?<=[.!?])\s+(?=[A-Z`])", paragraph)[0]


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef, tree: ast.Module, file: Path) -> Signature:
    if not (node.args.posonlyargs or node.args.args or node.args.vararg):
        form = f"Form: def {node.name}(data, *, parameter=default)."
        raise PluginError(
            f"{file}:{node.lineno}: {node.name} takes nothing positional: nowhere to give the data. {form}"
        )
    for extra in [*node.args.posonlyargs, *node.args.args][1:]:
        raise PluginError(
            f"{file}:{node.lineno}: {node.name} takes {extra.arg!r} by position, where only the data is "
            f"given. Columns and parameters come by name: write a * before {extra.arg}."
        )
    pairs = list(zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True))
    return Signature(
        name=node.name,
        description=first_sentence(ast.get_docstring(tree) or ast.get_docstring(node) or ""),
        columns=tuple(arg.arg for arg, default in pairs if default is None),
        params=tuple((arg.arg, ast.unparse(default)) for arg, default in pairs if default is not None),
        takes_all_columns=node.args.kwarg is not None,
        is_async=isinstance(node, ast.AsyncFunctionDef),
    )


def check_params(kind: str, name: str, params: dict[str, Any], places: Sequence[Path], key: str) -> None:
    """Refuse a parameter that the plugin's function does not take, or of another type than its default."""
    known = dict(signature(kind, name, places, key).params)
    for param, value in params.items():
        if param not in known:
            raise ConfigError(
                f"{key}.{param}", f"{name} takes no such parameter (value {value!r})", near_miss(param, known)
            )
        try:
            default = ast.literal_eval(known[param])
        except ValueError:
            continue
        number = isinstance(default, int | float) and not isinstance(default, bool)
        fits = (
            isinstance(value, int | float) and not isinstance(value, bool)
            if number
            else isinstance(value, type(default))
        )
        if default is not None and value is not None and not fits:
            raise ConfigError(f"{key}.{param}", f"should be like its default {default!r}, not {value!r}")
