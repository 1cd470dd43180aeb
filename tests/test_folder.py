"""The run folder's own files, and what `diff` and `rerun` make of them."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from runner import folder


def test_provenance_tells_where_a_run_comes_from(project, monkeypatch) -> None:
    """Command, overrides, commit, packages, hardware, seed, data; as the contract lists them."""
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(project.root)]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "recipes"], check=True)
    subprocess.run([*git, "commit", "-qm", "x"], check=True)
    project.write("rows.jsonl", "{}\n")
    monkeypatch.setattr("sys.argv", ["runner", "+recipe=two", "hub_token=abc"])
    assert project.call("recipe=two", "seed=7", "mix.datasets=[rows.jsonl]")[0] == 0
    told = json.loads((project.root / "outputs/two/provenance.json").read_text())
    assert told["command"] == ["runner", "+recipe=two", "hub_token=(hidden)"]
    assert told["overrides"] == ["+recipe=two", "seed=7", "mix.datasets=[rows.jsonl]"]
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert told["git"] == {"commit": head, "dirty": True}
    assert told["packages"]["hydra-core"] == "1.3.8"
    assert told["hardware"]["cpus"] == os.cpu_count() and told["hardware"]["memory_gib"] > 0
    assert isinstance(told["hardware"]["gpus"], list)
    assert told["seed"] == 7
    assert "data rows.jsonl" in told["sources"]["first"]


def test_a_sweeps_job_tells_its_own_choice(project) -> None:
    """Not the whole sweep's command alone."""
    assert project.call("-m", "recipe=two", "optim.lr=1,2")[0] == 0
    told = json.loads((project.root / "multirun/two/optim.lr=2/provenance.json").read_text())
    assert told["overrides"] == ["+recipe=two", "optim.lr=2"]


def test_gpus_are_asked_of_nvidia_smi(tmp_path, monkeypatch) -> None:
    """One line a GPU; no torch."""
    script = tmp_path / "nvidia-smi"
    script.write_text("#!/bin/sh\necho 'NVIDIA H200, 143771 MiB, 570.1'\necho 'NVIDIA H200, 143771 MiB, 570.1'\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert folder.hardware()["gpus"] == ["NVIDIA H200, 143771 MiB, 570.1"] * 2


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("hub_token=abc", "hub_token=(hidden)"),
        ("stages.push.token=abc", "stages.push.token=(hidden)"),
        ("HF_TOKEN=abc", "HF_TOKEN=(hidden)"),
        ("+backend.engine.api_key=sk-1", "+backend.engine.api_key=(hidden)"),
        ("backend.engine={api_key:sk-1,x:2}", "backend.engine={api_key:(hidden),x:2}"),
        ("backend.engine={'apikey': 'sk-1'}", "backend.engine={'apikey': (hidden)}"),
        ("password=a", "password=(hidden)"),
        ("url=https://me:pw@host/x", "url=https://(hidden)@host/x"),
        ("sampling.max_new_tokens=200", "sampling.max_new_tokens=200"),
        ("batch.tokens_per_device=100", "batch.tokens_per_device=100"),
        ("optim.lr=1e-4", "optim.lr=1e-4"),
        ("tokenizer=x", "tokenizer=x"),
    ],
)
def test_secrets_are_hidden(word: str, shown: str) -> None:
    """Values of keys that speak of secrets; figures of tokens stay."""
    assert folder.hidden(word) == shown


def test_diff_tells_config_data_and_figures(project) -> None:
    """What differs, in sections; the rest is named as the same."""
    project.write("rows.jsonl", "{}\n")
    project.call("recipe=two", "mix.datasets=[rows.jsonl]")
    project.write("rows.jsonl", "{}\n{}\n")
    project.call("recipe=two", "name=three", "mix.datasets=[rows.jsonl]", "optim.lr=2e-4", "stages.second.score=0.75")
    code, out, told = project.call("diff", "outputs/two", "outputs/three")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert (code, told) == (0, "")
    assert lines[:2] == ["- outputs/two", "+ outputs/three"]
    assert "optim.lr 0.0001 -> 0.0002 (+100.0%)" in lines
    assert any(line.startswith("first data rows.jsonl ") for line in lines)
    assert "second.score 0.5 -> 0.75 (+50.0%)" in lines
    assert lines[-1] == "the same: code, packages, machine"


def test_diff_refuses_what_is_no_run(project) -> None:
    """Two run folders, no less."""
    assert project.call("diff", "a")[::2] == (
        2,
        "diff: takes two run folders, not 1. Write: diff outputs/a outputs/b.\n",
    )
    code, _, told = project.call("diff", "a", "b")
    assert code == 2 and told.startswith("diff: 'a' is no run folder.")


@pytest.mark.parametrize("text", [b"name: [", b"5\n", b"\xff"])
def test_a_damaged_file_of_a_run_is_named(project, text: bytes) -> None:
    """It was a traceback."""
    assert project.call("recipe=two")[0] == 0
    for name, verbs in {
        "provenance.json": [("diff", "outputs/two")],
        "config.yaml": [("rerun",), ("diff", "outputs/two")],
    }.items():
        file = project.root / "outputs/two" / name
        file.write_bytes(text)
        for verb in verbs:
            code, out, told = project.call(*verb, "outputs/two")
            assert (code, out, told.count("\n")) == (2, "", 1), told
            assert told.startswith(f"outputs/two/{name}: ") and told.endswith("Mend it, or run the recipe anew.\n")


def test_rerun_goes_on_from_the_folder_alone(project) -> None:
    """Without the recipe; what is complete is reused, what is missing is made again."""
    project.call("recipe=two", "optim.lr=5")
    (project.root / "recipes/two.yaml").unlink()
    (project.root / "outputs/two/second/artifact.json").unlink()
    code, out, told = project.call("rerun", "outputs/two")
    assert (code, told) == (0, "")
    assert "reused, complete" in out and (project.root / "outputs/two/second/artifact.json").is_file()
    assert project.call("rerun", "recipes")[0] == 2
    assert project.call("rerun", "outputs/two", "--quick")[::2] == (
        2, "rerun: takes no flag --quick. It takes --config-dir DIR.\n"
    )  # fmt: skip


def test_a_run_with_plugins_from_elsewhere_is_rerun_with_them(project) -> None:
    """`rerun` took no `--config-dir`."""
    project.write(
        "away/recipes/far.yaml", "# far\nname: far\nmodel: a/b\nreward: {far: {}}\nstages: {a: {kind: distant}}\n"
    )
    project.write("away/plugins/rewards/far.py", "def far(completions): return [1.0] * len(completions)\n")
    text = (project.root / "plugins/stages/echo.py").read_text().replace("class Echo", "class Distant")
    project.write("away/plugins/stages/distant.py", text)
    assert project.call("recipe=far", "--config-dir", "away")[0] == 0
    assert project.call("rerun", "outputs/far")[0] == 2
    code, out, told = project.call("rerun", "outputs/far", "--config-dir", "away")
    assert (code, told) == (0, "") and "reused, complete" in out


def test_the_config_of_a_run_is_whole(project) -> None:
    """Resolved, with every key, and it composes the same plan again."""
    project.call("recipe=two", "seed=${epochs}", "epochs=3")
    config = yaml.safe_load(Path("outputs/two/config.yaml").read_text())
    assert config["seed"] == 3 and config["output_dir"] == "outputs/two"
    assert config["loss_scale"] == ["default"]
