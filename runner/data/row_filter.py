"""Keeps the rows for which an expression over their columns is true: `filter: len(response) < 2000 and tag == "en"`.

Names are columns; comparisons, and/or/not, arithmetic, `in`, and the functions below are all there is. Nothing else of
Python can be reached from a recipe.
"""

import ast
from collections.abc import Callable, Mapping
from typing import Any

from runner.core.errors import ConfigError, DataError, near_miss

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "len": len, "str": str, "int": int, "float": float, "lower": str.lower, "startswith": str.startswith,
    "endswith": str.endswith, "abs": abs, "min": min, "max": max, "any": any, "all": all,
}  # fmt: skip
ALLOWED = (
    ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.BinOp, ast.Add, ast.Sub, ast.Mult,
    ast.Div, ast.FloorDiv, ast.Mod, ast.Compare, ast.cmpop, ast.Name, ast.Load, ast.Constant, ast.Call, ast.Subscript,
    ast.Slice, ast.List, ast.Tuple, ast.IfExp,
)  # fmt: skip


def compiled(expression: str, key: str) -> Callable[[Mapping[str, Any], str], bool]:
    """A function of a row and of the place it lies at.

    Raises:
        ConfigError: it is no expression, or uses what is not allowed.
    """
    try:
        tree = ast.parse(expression, mode="eval")
    except SyntaxError as error:
        raise ConfigError(
            key, f"{expression!r} is no expression: {error.msg}", 'Form: len(response) < 2000 and tag == "en"'
        ) from None
    for node in ast.walk(tree):
        if not isinstance(node, ALLOWED):
            raise ConfigError(key, f"{type(node).__name__} is not allowed in a filter (value {expression!r})")
        if isinstance(node, ast.Call) and (
            not isinstance(node.func, ast.Name) or node.func.id not in FUNCTIONS or node.keywords
        ):
            raise ConfigError(
                key, f"no such function in a filter: {ast.unparse(node.func)}", f"Functions: {', '.join(FUNCTIONS)}."
            )
    code = compile(tree, key, "eval")
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - set(FUNCTIONS)

    def keeps(row: Mapping[str, Any], place: str) -> bool:
        missing = sorted(names - set(row))
        if missing:
            hint = near_miss(missing[0], map(str, row))
            raise DataError(f"{place}: {key} asks for the column {missing[0]!r}, which the row lacks. {hint}")
        try:
            return bool(eval(code, {"__builtins__": {}, **FUNCTIONS}, dict(row)))  # checked above
        except (TypeError, ValueError, ArithmeticError, LookupError) as error:
            raise DataError(f"{place}: {key} fails: {error} ({expression}).") from None

    return keeps
