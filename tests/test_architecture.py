"""The shape of the code, kept by its syntax trees: layers, no cycles, sizes, names, and what is imported where."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
CODE = sorted((ROOT / "runner").rglob("*.py"))
PLUGINS = sorted((ROOT / "plugins").rglob("*.py"))
PYTHON = [*CODE, *PLUGINS, *sorted((ROOT / "tests").rglob("*.py"))]
YAML = sorted(file for folder in ("conf", "recipes") for file in (ROOT / folder).rglob("*.yaml"))

# Lowest first. A module imports from its own layer or a lower one, never from a higher one.
LAYERS = (
    {"core"},
    {"data", "models", "formats"},
    {"training", "scoring", "backends", "engines"},
    {"algorithms", "rollouts"},
    {"stages", "report"},
    {"plan", "execute", "worker", "folder", "lock", "nodes", "process", "reuse", "sources", "terminal"},
    {"cli", "__main__"},
)
HEAVY = {"torch", "transformers", "trl", "vllm", "peft", "datasets", "accelerate", "matplotlib", "deepspeed", "gguf"}
VAGUE = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc"}
# Kinds whose files hold one component each, named like the file.
KINDS = ("stages", "formats", "algorithms", "backends")


def name_of(file: Path) -> str:
    """runner/data/mix.py -> runner.data.mix, and a package by the name of its folder."""
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def relative(file: Path) -> str:
    """A file as a test's name."""
    return str(file.relative_to(ROOT))


@cache
def tree(file: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(file.read_text(encoding="utf-8"))


def imports(nodes: Iterator[ast.AST] | list[ast.stmt]) -> Iterator[str]:
    """Every module that these statements import; of `from a import b` both a.b and a, whichever is a module."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
            yield str(node.module)


def at_once(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run when the module is imported, those of `if`, `try` and classes included."""
    for node in body:
        yield node
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        for part in (node, *getattr(node, "handlers", ())):
            if not isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from at_once([*getattr(part, "body", ()), *getattr(part, "orelse", ())])


@cache
def graph(types_too: bool = True) -> dict[str, set[str]]:
    """Which modules of runner each module imports, inside functions too; for types alone only when asked."""
    names = {name_of(file) for file in CODE}
    nodes = {name_of(file): _nodes(tree(file), types_too) for file in CODE}
    return {module: (set(imports(found)) & names) - {module} for module, found in nodes.items()}


def _nodes(node: ast.AST, types_too: bool) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        if types_too or not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield from _nodes(child, types_too)


def layer(module: str) -> int:
    """The place of a module of runner among LAYERS."""
    part = module.split(".")[1]
    found = [place for place, layer in enumerate(LAYERS) if part in layer]
    assert found, f"{module} belongs to no layer: put {part} into LAYERS"
    return found[0]


def test_imports_go_down_only() -> None:
    wrong = [
        f"{module} imports {other}"
        for module, others in graph().items()
        for other in others
        if module not in ("runner", "runner.api") and other != "runner" and layer(module) < layer(other)
    ]
    assert not wrong


def test_no_module_imports_one_that_imports_it() -> None:
    """There is an order in which each module comes after all that it imports. What only names a type is free."""
    left = graph(types_too=False)
    while ready := {module for module, others in left.items() if not others & left.keys()}:
        left = {module: others for module, others in left.items() if module not in ready}
    assert not left, "these import each other, or something that does"


def test_plugins_import_nothing_of_runner_but_the_api_and_nobody_imports_them() -> None:
    for file in PLUGINS:
        used = {name for name in imports(ast.walk(tree(file))) if name.split(".")[0] == "runner"}
        assert all(name == "runner.api" or name.startswith("runner.api.") for name in used), relative(file)
    for file in CODE:
        assert not [name for name in imports(ast.walk(tree(file))) if name.split(".")[0] == "plugins"], relative(file)


def test_the_api_is_one_page_over_the_core_alone() -> None:
    file = ROOT / "runner/api.py"
    assert len(file.read_text().splitlines()) <= 60
    assert all(name.startswith("runner.core.") for name in graph()["runner.api"])


def test_heavy_libraries_are_imported_inside_functions() -> None:
    """Except by private modules, which only functions import."""
    for file in [*CODE, *PLUGINS]:
        private = file.name.startswith("_") and file.name not in ("__init__.py", "__main__.py")
        direct = set(imports(list(at_once(tree(file).body))))
        if not private:
            assert not {name.split(".")[0] for name in direct} & HEAVY, relative(file)
            heavy = {name for name in direct if name in graph() and _is_heavy(name)}
            assert not heavy, f"{relative(file)} imports {heavy} at module level"


@cache
def _is_heavy(module: str) -> bool:
    """Whether importing a module of runner imports a heavy library, itself or through others."""
    file = ROOT / (module.replace(".", "/") + ".py")
    file = file if file.exists() else ROOT / module.replace(".", "/") / "__init__.py"
    direct = set(imports(list(at_once(tree(file).body))))
    inner = {name for name in direct if name in graph() and name != module}
    return bool({name.split(".")[0] for name in direct} & HEAVY) or any(_is_heavy(name) for name in inner)


@pytest.mark.parametrize("file", PYTHON, ids=relative)
def test_a_file_is_short_and_says_what_it_is_for(file: Path) -> None:
    """At most 400 lines, functions of at most 60, a docstring first, a name that says something."""
    lines = file.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 400
    assert not VAGUE & set(re.split(r"[/_.]", relative(file)))
    if lines:
        assert ast.get_docstring(tree(file))
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno + 1 <= 60, node.name
        if isinstance(node, ast.ClassDef):
            assert not VAGUE & set(re.findall(r"[A-Z][a-z]+", node.name.lower().title())), node.name


@pytest.mark.parametrize("file", YAML, ids=relative)
def test_a_yaml_is_short_and_says_what_it_is_for(file: Path) -> None:
    """At most 40 lines, recipes 30; the first line is a comment that describes it; the rest is YAML."""
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= (30 if file.parent.name == "recipes" else 40)
    assert re.match(r"# \S.{8,}\n", text), "the first line should be a comment that describes the file"
    yaml.safe_load(text)


@pytest.mark.parametrize("kind", KINDS)
def test_a_component_is_named_for_its_file(kind: str) -> None:
    """stages/sft.py has one public class or function: Sft or sft."""
    for file in sorted((ROOT / "runner" / kind).glob("[a-z]*.py")):
        camel = "".join(part.capitalize() for part in file.stem.split("_"))
        made = [node.name for node in tree(file).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        public = [name for name in made if not name.startswith("_")]
        assert len(public) == 1 and public[0] in (file.stem, camel), f"{relative(file)}: {public}"


@pytest.mark.parametrize("kind", ["rewards", "loss_scales"])
def test_a_plugin_is_named_for_its_file(kind: str) -> None:
    for file in sorted((ROOT / "plugins" / kind).glob("[a-z]*.py")):
        made = [
            node.name
            for node in tree(file).body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        ]
        assert [name for name in made if not name.startswith("_")] == [file.stem], relative(file)


def test_the_repository_names_no_machine_of_ours() -> None:
    """Absolute paths of a developer's machine and addresses of package registries have no place in what is shipped."""
    wrong = re.compile(r"/work/|/tmp/|/root/|pypi\.org|files\.pythonhosted")
    for file in [*CODE, *PLUGINS, *YAML, ROOT / "README.md", ROOT / "Makefile", ROOT / "pyproject.toml"]:
        assert not wrong.search(file.read_text(encoding="utf-8")), relative(file)
