"""The wheel and the sdist: what they carry, and the installed command in an empty folder of a user's."""

import json
import os
import site
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from runner import __version__
from tests.tiny import tiny_model

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ("conf", "recipes", "plugins")
RECIPE = """\
# Short answers are good answers.
# @package _global_
defaults:
  - override /model: mine
  - override /reward: [short]
name: mine
sampling: {max_new_tokens: 4, temperature: 0}
backend: {name: transformers}
stages:
  score: {kind: evaluate, prompts: [questions.jsonl]}
"""
REWARD = '''
"""Answers of few characters."""
from runner.api import answer

def short(completions: list[str], *, limit: int = 1000) -> list[float | None]:
    """1 for an answer of at most `limit` characters."""
    return [float(len(answer(one)) <= limit) for one in completions]
'''
QUESTION = {"messages": [{"role": "user", "content": "who are you?"}]}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=120)
    return folder


@pytest.fixture(scope="module")
def runner(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of a new environment that holds the wheel alone; its dependencies are those of this one."""
    venv = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True, timeout=60)
    wheel = next(built.glob("*.whl"))
    pip = [sys.executable, "-m", "pip", "--python", str(venv / "bin" / "python"), "install", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--quiet", str(wheel)], check=True, timeout=60)
    home = next((venv / "lib").glob("python*")) / "site-packages"
    (home / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return venv / "bin" / "runner"


@pytest.fixture
def call(runner: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`runner WORDS` in an empty folder, with nothing of this checkout on the path."""
    hidden = ("PYTHONPATH", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment["RUNNER_CACHE"] = str(tmp_path / "cache")
    folder = tmp_path / "folder"
    folder.mkdir()

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(runner), *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
        )

    return run


def shipped() -> set[str]:
    """Every file of conf, recipes and plugins in the checkout."""
    files = (file for name in SHIPPED for file in (ROOT / name).rglob("*") if file.is_file())
    return {str(file.relative_to(ROOT)) for file in files if "__pycache__" not in file.parts}


def test_the_wheel_carries_configs_recipes_and_plugins_inside_the_package(built: Path) -> None:
    names = set(zipfile.ZipFile(next(built.glob("*.whl"))).namelist())
    assert {f"runner/{name}" for name in shipped()} <= names
    assert {name.split("/")[0] for name in names} == {"runner", f"recipe_runner-{__version__}.dist-info"}
    assert not [name for name in names if "__pycache__" in name or name.startswith("runner/tests")]


def test_the_sdist_carries_what_the_tests_need(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    assert shipped() | {"Makefile", "LICENSE", "README.md", "tests/tiny.py", "tests/test_wheel.py"} <= names


def test_the_shipped_recipes_are_there_with_their_data(call: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    listed = call("list", "recipes", "rewards", "train_types")
    assert listed.returncode == 0, listed.stderr
    planned = call("plan", "+recipe=quickstart")
    assert planned.returncode == 0, planned.stderr
    assert {"quickstart", "contains", "lora"} <= {
        line.split()[0] for line in listed.stdout.splitlines() if line.strip()
    }


def test_a_users_own_recipe_config_and_reward_work(
    call: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """From an empty folder: planned, run, and a mistake told with the user's own file and line."""
    folder = tmp_path / "folder"
    tiny_model(folder / "tiny")
    files = {
        "recipes/mine.yaml": RECIPE,
        "conf/model/mine.yaml": "# A tiny model.\nid: tiny\n",
        "plugins/rewards/short.py": REWARD,
        "questions.jsonl": json.dumps(QUESTION) + "\n",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    assert "A tiny model." in call("list", "models").stdout
    planned = call("plan", "+recipe=mine")
    assert planned.returncode == 0, planned.stderr
    done = call("+recipe=mine")
    assert done.returncode == 0, done.stdout + done.stderr
    scores = (folder / "outputs/mine/score/scores.jsonl").read_text().splitlines()
    assert len(scores) == 1
    (folder / "recipes/mine.yaml").write_text(RECIPE.replace("temperature:", "temprature:"))
    wrong = call("plan", "+recipe=mine")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("recipes/mine.yaml:7: sampling.temprature: no such key (value 0).")
