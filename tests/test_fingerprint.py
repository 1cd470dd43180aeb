"""What changes a stage's identity and what does not: every key of the schema, data, plugins, models, templates."""

import dataclasses
import json
import os
import time
import typing
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest

from runner import plan
from runner.core import schema
from runner.core.places import roots
from runner.core.specs import Recipe

LAYERS = [field.name for field in dataclasses.fields(Recipe) if field.name not in (
    "name", "seed", "output_dir", "hub", "plugins_path", "on_change", "on_failure", "objective", "stages")]  # fmt: skip
WHOLE = f'''
"""Takes every layer."""
from typing import Any, ClassVar
from runner.core.artifact import Artifact
from runner.core.schema import component, hints
from runner.core.specs import Recipe

class Layers:
    __annotations__ = {{name: hint for name, hint in hints(Recipe).items() if name in {LAYERS!r}}}

@component
class Whole:
    """Takes every layer."""
    __annotations__ = {{**Layers.__annotations__, "accepts": ClassVar[Any], "reuse": ClassVar[str],
                       "interactive": ClassVar[bool]}}
    accepts: ClassVar[Any] = {{}}
    reuse: ClassVar[str] = "always"
    interactive: ClassVar[bool] = False
    def produces(self): return "model"
    def check(self, roots, key): pass
    def run(self, job): return Artifact("model", str(job.folder))
'''
ROW = '{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}\n'
FITTING = {"mix.variables": {"NAME": "Ada"}, "mix.datasets": ["org/name"], "mix.validation.datasets": ["org/name"]}
BASE: dict[str, Any] = {
    "name": "x", "output_dir": "outputs/x", "model": {"id": "folder"}, "mix": {"datasets": ["rows.jsonl#5"]},
    "stages": {"a": {"kind": "whole"}},
}  # fmt: skip


@pytest.fixture
def folder(project):
    """A project with a stage kind that takes every layer, a data file, a model folder and two rewards."""
    project.write("plugins/stages/whole.py", WHOLE)
    project.write("rows.jsonl", ROW)
    project.write("folder/config.json", '{"hidden_size": 8}')
    project.write("folder/chat_template.jinja", "{{ messages }}")
    project.write("folder/model.safetensors", "weights")
    for name in ("used", "unused"):
        project.write(f"plugins/rewards/{name}.py", f"def {name}(completions, *, limit: int = 3): ...\n")
        project.write(f"plugins/loss_scales/{name}_rule.py", f"def {name}_rule(span, *, weight: float = 1.0): ...\n")
    return project


def mark(**changes: Any) -> str:
    """The fingerprint of the stage under changed top-level keys."""
    return plan.make({**BASE, **changes}, roots()).step("a").fingerprint


def changed(path: str, value: Any) -> dict[str, Any]:
    """BASE's top-level key with one key below it changed."""
    top, *rest = path.split(".")
    layer = json.loads(json.dumps(BASE.get(top, {})))
    inner = layer
    for step in rest[:-1]:
        inner = inner.setdefault(step, {})
    if rest:
        inner[rest[-1]] = value
    return {top: layer if rest else value}


def other(hint: Any, value: Any) -> Any:
    """Another value that the type allows."""
    bare = get_args(hint)[0] if get_origin(hint) is typing.Annotated else hint
    for part in get_args(bare) if get_origin(bare) in (typing.Union, type(int | str)) else [bare]:
        inner = get_args(part)[0] if get_origin(part) is typing.Annotated else part
        if get_origin(inner) is typing.Annotated:
            inner = get_args(inner)[0]
        if inner is bool:
            return not value
        if get_origin(inner) is typing.Literal:
            rest = [choice for choice in get_args(inner) if choice != value]
            if not rest:
                continue
            return rest[0]
        if inner is int:
            return (value if isinstance(value, int) else 1) + 1
        if inner is float:
            return 0.25 if value != 0.25 else 0.5
        if inner is str:
            return f"{value}x"
        if get_origin(inner) is list:
            return [other(get_args(inner)[0], None)]
        if get_origin(inner) is dict or inner is dict:
            return {"x": other(get_args(inner)[1], None) if get_args(inner) and get_args(inner)[1] is not Any else "x"}
    raise AssertionError(hint)


def leaves(cls: Any, prefix: str = "", execution: bool = False) -> list[tuple[str, Any, bool]]:
    """(key, type, is execution) of every leaf of the layers."""
    found = []
    for name, hint in schema.hints(cls).items():
        if (not prefix and name not in LAYERS) or name in ("reward", "loss_scale"):
            continue
        nested = [part for part in schema._members(hint) if dataclasses.is_dataclass(part)]
        mine = execution or schema.is_execution(hint)
        found += leaves(nested[0], f"{prefix}{name}.", mine) if nested else [(prefix + name, hint, mine)]
    return found


def value_of(path: str) -> Any:
    """The default of a key."""
    value: Any = schema.defaults(Recipe)
    for step in path.split("."):
        value = value[step]
    return value


@pytest.mark.parametrize(("path", "hint", "execution"), leaves(Recipe), ids=[path for path, _, _ in leaves(Recipe)])
def test_identity_keys_change_it_and_execution_keys_do_not(folder, path: str, hint: Any, execution: bool) -> None:
    """Every leaf of the schema, from its default to something else."""
    several = {"parallelism": {"preset": "ddp"}} if path.startswith("parallelism.") else {}
    fresh = FITTING.get(path) or other(hint, value_of(path))
    layers = changed(path, fresh)
    for name, keys in several.items():
        layers[name] = {**keys, **layers[name]}
    assert (mark(**layers) == mark()) == execution


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"seed": 43}, False),
        ({"hub": "huggingface"}, False),
        ({"reward": {"used": {"weight": 2.0}}}, False),
        ({"loss_scale": ["used_rule"]}, False),
        ({"name": "other"}, True),
        ({"output_dir": "elsewhere"}, True),
        ({"on_change": "replace"}, True),
        ({"on_failure": "stop"}, True),
        ({"objective": "a.loss"}, True),
        ({"plugins_path": "plugins"}, True),
    ],
)
def test_top_level_keys(folder, changes: dict[str, Any], same: bool) -> None:
    """The keys that are no layer."""
    assert (mark(**changes) == mark()) == same


def test_data_counts_by_content(folder) -> None:
    """Touching a file changes nothing; one letter does; the same letter back restores it."""
    before, file = mark(), folder.root / "rows.jsonl"
    os.utime(file, ns=(1, 1))
    assert mark() == before
    file.write_text(ROW.replace("ho", "hu"))
    os.utime(file, ns=(2, 2))
    assert mark() != before
    file.write_text(ROW)
    os.utime(file, ns=(3, 3))
    assert mark() == before
    assert mark(mix={"datasets": ["rows.jsonl#6"]}) != before


def test_a_file_is_read_once_while_it_stays_as_it_is(folder, monkeypatch) -> None:
    """Its digest is remembered by size and time; a file written this moment is not trusted yet."""
    import hashlib

    file = folder.root / "rows.jsonl"
    for old in (file, *(folder.root / "folder").iterdir()):
        os.utime(old, ns=(10**18, 10**18))
    before = mark()
    monkeypatch.setattr(hashlib, "file_digest", None)
    assert mark() == before
    file.write_text(ROW.replace("ho", "hu"))
    with pytest.raises(TypeError):
        mark()


@pytest.mark.parametrize(
    "text",
    [
        "from runner.api import reward\ndef used(completions): return reward('inner')(completions)\n",
        "from runner.api import answer, reward as other\nINNER = other(name='inner')\ndef used(completions): ...\n",
        "import runner.api\ndef used(completions): return runner.api.reward('inner')(completions)\n",
        "from runner import api as door\ndef used(completions): return door.reward('inner')(completions)\n",
    ],
)
def test_a_reward_counts_with_those_that_it_names(folder, text: str) -> None:
    """And with those that they name; two that name each other are no trouble."""
    folder.write("plugins/rewards/used.py", text)
    folder.write("plugins/rewards/inner.py", "from runner.api import reward\ndef inner(completions): reward('last')\n")
    folder.write("plugins/rewards/last.py", "from runner.api import reward\ndef last(completions): reward('used')\n")
    for name in ("inner", "last"):
        before = mark(reward={"used": {}})
        file = folder.root / f"plugins/rewards/{name}.py"
        file.write_text(file.read_text() + "# changed\n")
        assert mark(reward={"used": {}}) != before
    before = mark(reward={"cosine": {}})  # a shipped one that builds on another
    folder.write("plugins/rewards/accuracy.py", "def accuracy(completions, *, solution): ...\n")
    assert mark(reward={"cosine": {}}) != before


def test_a_quick_edit_of_the_same_size_is_seen(folder) -> None:
    """Even where the file system's clock does not move between two writes."""
    file, now = folder.root / "rows.jsonl", time.time_ns()
    os.utime(file, ns=(now, now))
    before = mark()
    file.write_text(ROW.replace("ho", "hu"))
    os.utime(file, ns=(now, now))
    assert mark() != before


def test_a_folder_of_data_counts_by_all_its_files(folder) -> None:
    """Another file in it changes it; a hidden one does not."""
    folder.write("many/a.jsonl", ROW)
    before = mark(mix={"datasets": ["many"]})
    folder.write("many/.cache", "x")
    assert mark(mix={"datasets": ["many"]}) == before
    folder.write("many/b.jsonl", ROW)
    assert mark(mix={"datasets": ["many"]}) != before


def test_plugins_count_by_source_when_they_are_used(folder) -> None:
    """Editing a used one changes it, an unused one does not; rewards, rules, and the stage kind itself."""
    changes = {"reward": {"used": {}}, "loss_scale": ["used_rule"]}
    before = mark(**changes)
    for name in ("rewards/unused", "loss_scales/unused_rule", "stages/echo"):
        file = folder.root / f"plugins/{name}.py"
        file.write_text(file.read_text() + "\n# edited\n")
    assert mark(**changes) == before
    for name in ("rewards/used", "loss_scales/used_rule", "stages/whole"):
        file = folder.root / f"plugins/{name}.py"
        file.write_text(file.read_text() + "\n# edited\n")
        after = mark(**changes)
        assert after != before, name
        before = after


def test_plugins_count_with_what_they_import_of_the_users_folder(folder) -> None:
    """An edit of a helper gave other scores and labels, and finished stages were reused."""
    changes = {"reward": {"used": {}}, "loss_scale": ["used_rule"]}
    plain = mark(**changes)
    for name, line in (("rewards/used", "import helper"), ("loss_scales/used_rule", "from words.few import some")):
        file = folder.root / f"plugins/{name}.py"
        file.write_text(f"{line}\nimport json, torch.nn, runner.api\n{file.read_text()}")
    before = mark(**changes)
    assert before != plain
    for name in ("helper.py", "words/__init__.py", "words/few.py", "words/other.py"):
        folder.write(name, "from .other import more\n" if name == "words/few.py" else "from helper import x\n")
        after = mark(**changes)
        assert after != before, name
        before = after
    folder.write("nobody.py", "x = 1\n")
    assert mark(**changes) == before


def test_a_model_counts_by_its_folder(folder) -> None:
    """Template and config by text, weights by size and time, notes beside them not at all."""
    before = mark()
    folder.write("folder/README.md", "hello")
    os.utime(folder.root / "folder/config.json", ns=(1, 1))
    assert mark() == before
    for name, text in (
        ("chat_template.jinja", "{{ other }}"),
        ("config.json", "{}"),
        ("model.safetensors", "heavier weights"),
    ):
        folder.write(f"folder/{name}", text)
        after = mark()
        assert after != before, name
        before = after


def test_a_model_in_a_file_counts_by_that_file(folder) -> None:
    """Size and time, as of other weights."""
    folder.write("small.gguf", "GGUF")
    before = mark(model={"id": "small.gguf"})
    assert mark(model={"id": "small.gguf"}) == before
    folder.write("small.gguf", "GGUF, another")
    assert mark(model={"id": "small.gguf"}) != before


def test_an_adapter_counts_with_its_base(folder) -> None:
    """A base that lies here may become another; one that is elsewhere counts by its name."""
    place = folder.root / "folder"
    folder.write("adapter/adapter_config.json", json.dumps({"base_model_name_or_path": str(place)}))
    folder.write("adapter/adapter_model.safetensors", "weights")
    model = {"id": "adapter"}
    before = mark(model=model)
    assert f"base {place}" in plan.make({**BASE, "model": model}, roots()).step("a").identity["sources"]
    folder.write("folder/model.safetensors", "heavier weights")
    assert mark(model=model) != before
    folder.write("adapter/adapter_config.json", json.dumps({"base_model_name_or_path": "org/base"}))
    assert not [name for name in plan.make({**BASE, "model": model}, roots()).step("a").identity["sources"]
                if name.startswith("base ")]  # fmt: skip


def test_the_encoders_version_counts_where_there_is_data(folder, monkeypatch) -> None:
    """A new encoder trains other labels: what an old one made is not reused."""
    from runner.data import fingerprint

    before = mark()
    monkeypatch.setattr(fingerprint, "ENCODER", fingerprint.ENCODER + 1)
    assert mark() != before
    assert mark(mix={}) == mark(mix={})


def test_reasons_name_key_data_plugin_and_model(folder) -> None:
    """What changed, from what to what, as `plan` tells it."""
    folder.recipe(
        "# x\nname: mine\nmodel: folder\nmix: {datasets: [rows.jsonl]}\nreward: [used]\nstages: {a: {kind: whole}}\n"
    )
    assert folder.call("recipe=mine")[0] == 0
    folder.write("rows.jsonl", ROW + ROW)
    folder.write("plugins/rewards/used.py", "def used(completions): ...\n")
    folder.write("folder/config.json", "{}")
    code, out, _ = folder.call("plan", "recipe=mine", "optim.lr=3e-4", "mix.datasets=[rows.jsonl]")
    said = " ".join(out.split())
    assert code == 0
    assert "optim.lr: None -> 0.0003" in said
    for what in ("data rows.jsonl: ", "reward used: ", "model folder: "):
        assert what in said
    assert (Path("outputs/mine/a/job.yaml")).read_text().count("data rows.jsonl") == 1
