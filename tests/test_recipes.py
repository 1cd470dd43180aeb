"""Every shipped recipe composes and plans without network; every shipped config is an option that works."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from runner.cli.list import GROUPS, entries, first_comment
from runner.core.places import package_root, roots
from tests.test_cli import HEAVY

ROOT = package_root()
RECIPES = sorted(file.stem for file in (ROOT / "recipes").glob("*.yaml"))
OPTIONS = [
    (group.name, file.stem)
    for group in sorted((ROOT / "conf").iterdir())
    if group.is_dir()
    for file in sorted(group.glob("*.yaml"))
]
GIVEN = {  # recipes that are about a model of one's own
    "chat": ["model=model"],
    "evaluate_gsm8k": ["model=model"],
    "infer": ["model=model", "stages.infer.questions=[hi]"],
    "merge": ["model=adapter"],
    "pretrain": ["mix.datasets=[some/data#500]"],
    "push": ["model=model", "stages.push.repo=me/mine", "stages.push.dry_run=true"],
    "qwen3_full_zero3": ["mix.datasets=[some/data#500]"],
    "qwen3_qlora": ["mix.datasets=[some/data#500]"],
}
NEEDS = {"freeze": ["train_type.patterns=[layers.1]"]}  # options that must be told something


@pytest.fixture
def models(project) -> None:
    """`model` and `adapter`, as far as a plan looks at them."""
    project.write("model/config.json", "{}")
    project.write("adapter/adapter_config.json", json.dumps({"base_model_name_or_path": "model"}))


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_plan(project, models, name: str) -> None:
    """From an empty folder of the user's."""
    extra = GIVEN.get(name, [])
    code, out, told = project.call("plan", f"recipe={name}", *extra)
    assert (code, told) == (0, "")
    assert out.startswith(f"{name}  outputs/{name}")


def test_planning_any_shipped_recipe_imports_nothing_heavy(models) -> None:
    """All of them in one process, which then names what it imported."""
    code = (
        "import sys; from runner.__main__ import main\n"
        "codes = [main(words.split()) for words in sys.argv[1:]]\n"
        "print('IMPORTED', codes, *sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)\n"
    )
    plans = [f"plan recipe={name} {' '.join(GIVEN.get(name, []))}" for name in RECIPES]
    done = subprocess.run([sys.executable, "-c", code, *plans], capture_output=True, text=True, timeout=120)
    codes, *imported = done.stderr.rpartition("IMPORTED ")[2].partition("] ")[::2]
    assert codes == str([0] * len(RECIPES))[:-1], done.stderr
    assert not set(HEAVY) & set(imported[0].split())


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_describe_themselves(project, name: str) -> None:
    """The first line is a comment, and `--help` and `list` show it; at most 30 lines."""
    file = ROOT / "recipes" / f"{name}.yaml"
    text = file.read_text(encoding="utf-8")
    assert text.startswith("# ") and len(first_comment(file)) > 20
    assert len(text.splitlines()) <= 30
    assert first_comment(file) in project.call("--help")[1]


@pytest.mark.parametrize(("group", "name"), OPTIONS)
def test_every_option_composes(project, group: str, name: str) -> None:
    """Chosen over a plain recipe; stages through their defaults list."""
    file = ROOT / "conf" / group / f"{name}.yaml"
    assert first_comment(file), f"{file}: the first line should be a comment that says what it is for"
    if group == "dataset":
        words = ["recipe=two", f"mix.datasets=[{name}]"]  # datasets are found by name in a mix, not chosen as a group
    elif group == "stage":
        project.recipe(f"# x\ndefaults:\n  - /stage@stages.one: {name}\nname: mine\nmodel: a/b\n")
        words = ["recipe=mine"]
    else:
        words = ["recipe=two", f"{group}={name}", *NEEDS.get(name, [])]
    code, _, told = project.call(*words, "--cfg", "job")
    assert (code, told) == (0, "")


def test_lists_show_every_option(project) -> None:
    """Each with its first comment."""
    for kind in (*GROUPS, "recipes"):
        for name, description, _ in entries(kind, roots()):
            assert description or kind == "recipes", (kind, name)


def test_nothing_hides_itself(project) -> None:
    """A kind of the package's is found from every root, and is one all the same."""
    told = project.call("list", "stages", "formats")[1]
    assert "dpo" in told and "preference" in told and "hides" not in told


def test_a_users_recipe_of_the_same_name_wins(project) -> None:
    """And the list says what it hides."""
    name = RECIPES[0]
    project.recipe("# Mine.\nname: own\nmodel: a/b\nstages: {a: {kind: echo}}\n", name)
    assert project.call("plan", f"recipe={name}")[1].startswith("own  outputs/own")
    assert f"(hides {Path(ROOT) / 'recipes' / name}.yaml)" in project.call("list", "recipes")[1]
