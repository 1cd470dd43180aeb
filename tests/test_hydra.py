"""What a Hydra user expects, a test a line of the acceptance list (the numbers are the list's)."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from runner.cli.compose import composer, ready


@pytest.fixture
def user(project):
    """The project with groups, a reward and a machine-local file."""
    project.write("conf/model/tiny.yaml", "# A tiny model.\nid: tiny/tiny\n")
    project.write("conf/model/small.yaml", "# A small model.\nid: small/small\ndtype: float32\n")
    for name in ("short", "polite", "brief"):
        project.write(f"plugins/rewards/{name}.py", f"def {name}(completions, *, limit: int = 3): ...\n")
    project.recipe(
        "# Uses a group.\ndefaults:\n  - override /model: tiny\nname: demo\nstages: {a: {kind: echo}}\n", "demo"
    )
    return project


def config(user, *words: str) -> dict:
    """The composed config of `--cfg job`."""
    code, out, told = user.call(*words, "--cfg", "job", "--resolve")
    assert code == 0, told
    return yaml.safe_load(out)


def test_01_a_recipe_composes_and_overrides_groups(user) -> None:
    """`+recipe=x` is global; `override /model: y` inside it works; so does a `# @package _global_` line."""
    assert config(user, "+recipe=demo")["model"]["id"] == "tiny/tiny"
    text = (user.root / "recipes/demo.yaml").read_text()
    user.recipe("# x\n# @package _global_\n" + text, "explicit")
    assert config(user, "+recipe=explicit") == config(user, "+recipe=demo")


def test_02_the_command_line_beats_the_recipe_in_either_order(user) -> None:
    """Values and groups."""
    for words in (["+recipe=two", "optim.lr=7"], ["optim.lr=7", "+recipe=two"]):
        assert config(user, *words)["optim"]["lr"] == 7
    for words in (["+recipe=demo", "model=small"], ["model=small", "+recipe=demo"]):
        assert config(user, *words)["model"]["id"] == "small/small"


@pytest.mark.parametrize("what", ["job", "hydra", "all"])
def test_03_cfg_shows_and_starts_nothing(user, what: str) -> None:
    """No folder is made."""
    code, out, _ = user.call("+recipe=demo", "--cfg", what)
    assert code == 0
    assert ("hydra" in yaml.safe_load(out)) == (what != "job")
    assert not (user.root / "outputs").exists()


def test_04_resolve_follows_interpolations(user) -> None:
    """Ours among them: the folder of a sweep's job."""
    assert config(user, "+recipe=demo")["output_dir"] == "outputs/demo"
    code, out, _ = user.call("+recipe=demo", "optim.lr=3", "--cfg", "all", "--resolve", "-p", "hydra.sweep")
    assert code == 0
    assert yaml.safe_load(out) == {"dir": "multirun/demo", "subdir": "optim.lr=3"}


def test_05_one_package(user) -> None:
    """`-p model`."""
    assert yaml.safe_load(user.call("+recipe=demo", "--cfg", "job", "-p", "model")[1])["id"] == "tiny/tiny"


@pytest.mark.parametrize("what", ["defaults-tree", "defaults", "searchpath", "plugins", "config", "all"])
def test_06_info(user, what: str) -> None:
    """Every kind of it."""
    code, out, told = user.call("+recipe=demo", "--info", what)
    assert (code, told) == (0, "")
    assert {"defaults-tree": "recipe: demo", "defaults": "recipe/demo", "searchpath": f"runner://{user.root}"}.get(
        what, "*"
    ) in out


def test_07_help_version(user) -> None:
    """Recipes with their descriptions in ours; Hydra's own beside it."""
    assert "Uses a group." in user.call("--help")[1]
    assert "See https://hydra.cc" in user.call("--hydra-help")[1]
    with pytest.raises(SystemExit) as ended:  # argparse ends the process itself
        user.call("--version")
    assert ended.value.code == 0
    assert "Hydra 1.3" in user.capture.readouterr().out.partition("recipe-runner ")[2]


def test_08_nested_values_and_typed_errors(user) -> None:
    """Key, value and type are named."""
    assert config(user, "+recipe=demo", "train_type.lora.rank=4")["train_type"]["lora"]["rank"] == 4
    told = user.call("plan", "+recipe=demo", "train_type.lora.rank=four")[2]
    assert told == "command line: train_type.lora.rank: should be a whole number, not 'four'.\n"


def test_09_10_11_mistakes_name_what_was_meant(user) -> None:
    """A key on the command line, a key in a file, an option of a group. More of them: tests/cli/test_mistakes.py."""
    assert "Did you mean optim.lr?" in user.call("plan", "+recipe=demo", "optim.lrr=1")[2]
    user.recipe("# x\nname: x\nmodel: a/b\noptim: {lrr: 1}\nstages: {a: {kind: echo}}\n")
    assert "recipes/mine.yaml:4: optim.lrr" in user.call("plan", "+recipe=mine")[2]
    assert "Did you mean tiny?" in user.call("plan", "+recipe=two", "model=tny")[2]


def test_12_recipe_without_plus(user) -> None:
    """Means the same."""
    assert config(user, "recipe=demo") == config(user, "+recipe=demo")


def test_13_plus_and_plus_plus(user) -> None:
    """`+` on what exists is refused with the way out; `++` sets; a new key under free names is added."""
    assert "Write optim.lr=1 without the plus sign" in user.call("plan", "+recipe=two", "+optim.lr=1")[2]
    assert config(user, "+recipe=demo", "++optim.lr=1")["optim"]["lr"] == 1
    assert config(user, "+recipe=demo", "+mix.variables.NAME=Ada")["mix"]["variables"] == {"NAME": "Ada"}


def test_14_deletion(user) -> None:
    """Keys, stages and groups; a list group is emptied by []."""
    assert list(config(user, "+recipe=two", "~stages.second")["stages"]) == ["first"]
    assert "lr" not in config(user, "+recipe=two", "~optim.lr")["optim"]
    assert config(user, "recipe=two", "~parallelism")["parallelism"]["preset"] == "single"
    user.recipe("# x\ndefaults:\n  - override /reward: [short]\nname: x\nmodel: a/b\nstages: {a: {kind: echo}}\n")
    assert list(config(user, "recipe=mine")["reward"]) == ["short"]
    assert config(user, "recipe=mine", "reward=[]")["reward"] == {}


def test_15_a_group_at_a_package(user) -> None:
    """A second model for one stage."""
    stage = config(user, "recipe=demo", "+model@stages.a.model=small")["stages"]["a"]
    assert stage["model"]["id"] == "small/small"


def test_16_several_of_a_group(user) -> None:
    """`reward=[a,b]`, each a plugin file alone."""
    assert list(config(user, "recipe=demo", "reward=[short,polite]")["reward"]) == ["short", "polite"]


def test_17_quoting(user) -> None:
    """Texts with commas, lists, mappings, null, floats."""
    shown = config(user, "recipe=demo", "name='a b,c'", "template.system=\"x, y\"", "optim.betas=[0.5,0.6]",
                   "mix.validation={rows:3}", "optim.lr=1e-5", "eval.every=null")  # fmt: skip
    assert shown["name"] == "a b,c" and shown["template"]["system"] == "x, y"
    assert shown["optim"]["betas"] == [0.5, 0.6] and shown["optim"]["lr"] == 1e-5
    assert shown["mix"]["validation"]["rows"] == 3 and shown["eval"]["every"] is None


def test_18_an_empty_number_is_refused(user) -> None:
    """Stock Hydra makes it an empty text."""
    assert user.call("plan", "recipe=demo", "optim.lr=")[::2] == (
        2, "command line: optim.lr: empty. Give it a value, or leave the key out.\n")  # fmt: skip


def test_19_several_values_without_multirun(user) -> None:
    """Explained: sweep, list, quotes."""
    told = user.call("plan", "recipe=demo", "optim.lr=1,2")[2]
    assert "add -m" in told and "[1,2]" in told and "quotes" in told


@pytest.mark.parametrize(
    ("words", "folders"),
    [
        (
            ["optim.lr=1,2", "seed=3,4"],
            ["optim.lr=1,seed=3", "optim.lr=1,seed=4", "optim.lr=2,seed=3", "optim.lr=2,seed=4"],
        ),
        (["optim.lr=choice(1,2)"], ["optim.lr=1", "optim.lr=2"]),
        (["seed=range(1,3)"], ["seed=1", "seed=2"]),
        (["model=glob(*,exclude=tiny)"], ["model=small"]),
    ],
)
def test_20_sweeps(user, words: list[str], folders: list[str]) -> None:
    """The Cartesian product; choice, range, glob."""
    shipped = len(list((Path(__file__).parent.parent / "conf/model").glob("*.yaml")))
    code, out, told = user.call("plan", "-m", "recipe=two", *words)
    assert (code, told) == (0, "")
    found = [line.split("multirun/two/")[1].strip() for line in out.splitlines() if "multirun/two/" in line]
    assert [name for name in found if name in folders] == folders
    assert len(found) == len(folders) + (shipped if "glob" in words[0] else 0)


def test_21_a_recipe_that_sweeps(user) -> None:
    """`hydra.mode=MULTIRUN` and `hydra.sweeper.params` inside it."""
    user.recipe(
        "# x\nname: swp\nmodel: a/b\nhydra: {mode: MULTIRUN, sweeper: {params: {optim.lr: '1,2'}}}\n"
        "stages: {a: {kind: echo}}\n"
    )
    assert user.call("recipe=mine")[0] == 0
    assert sorted(folder.name for folder in (user.root / "multirun/swp").glob("optim*")) == ["optim.lr=1", "optim.lr=2"]


def test_22_flags_anywhere(user) -> None:
    """`-m` in the middle, an override before it."""
    code, out, told = user.call("plan", "hydra/launcher=basic", "-m", "recipe=two", "seed=1,2")
    assert (code, told) == (0, "") and out.count("multirun/two/") == 2


# 23: joblib runs in test_cli.py (test_a_sweep_has_fixed_folders_and_goes_on); Slurm and Ray need a cluster.


def test_24_folders_can_be_chosen(user) -> None:
    """hydra.run.dir, hydra.sweep.dir, hydra.sweep.subdir."""
    assert user.call("recipe=two", "hydra.run.dir=elsewhere")[0] == 0
    assert (user.root / "elsewhere/second/artifact.json").is_file()
    words = ["-m", "recipe=two", "seed=1,2", "hydra.sweep.dir=all", "hydra.sweep.subdir=${hydra.job.num}"]
    assert user.call(*words)[0] == 0
    assert (user.root / "all/0/second/artifact.json").is_file() and (user.root / "all/1/.hydra/config.yaml").is_file()


def test_25_what_a_run_and_a_sweep_leave(user) -> None:
    """.hydra/*.yaml a run, multirun.yaml a sweep, and our own beside them."""
    user.call("recipe=two")
    user.call("-m", "recipe=two", "seed=1")
    for run in (user.root / "outputs/two", user.root / "multirun/two/seed=1"):
        names = {file.name for file in (run / ".hydra").iterdir()}
        assert names == {"config.yaml", "hydra.yaml", "overrides.yaml"}
        assert {"config.yaml", "plan.json", "provenance.json"} <= {file.name for file in run.iterdir()}
    assert yaml.safe_load((user.root / "multirun/two/seed=1/.hydra/overrides.yaml").read_text()) == [
        "+recipe=two",
        "seed=1",
    ]
    assert (user.root / "multirun/two/multirun.yaml").is_file()


def test_26_chdir_keeps_the_meaning_of_relative_paths(user) -> None:
    """A data file beside the recipe is found, and folders are where they always are."""
    user.write("rows.jsonl", "{}\n")
    for words in (["recipe=two"], ["-m", "recipe=two", "seed=1"]):
        code, _, told = user.call(*words, "hydra.job.chdir=true", "mix.datasets=[rows.jsonl]")
        assert (code, told) == (0, "")
    assert (user.root / "outputs/two/second/artifact.json").is_file()
    assert (user.root / "multirun/two").is_dir() and os.getcwd() == str(user.root)
    told = json.loads((user.root / "outputs/two/provenance.json").read_text())
    assert "data rows.jsonl" in told["sources"]["first"]


def test_27_config_dir(user) -> None:
    """`--config-dir DIR` and `-cd DIR`, with groups as in a stock Hydra folder too."""
    user.write(
        "away/recipes/far.yaml", "# far\ndefaults:\n  - override /model: own\nname: far\nstages: {a: {kind: echo}}\n"
    )
    user.write("away/model/own.yaml", "id: own/own\n")
    (user.root / "plugins").rename(user.root / "away/plugins")
    for flag in ("--config-dir", "-cd"):
        assert config(user, "recipe=far", flag, "away")["model"]["id"] == "own/own"


def test_28_searchpath(user) -> None:
    """hydra.searchpath=[file://DIR], in Hydra's own layout of a folder a group."""
    user.write("more/model/other.yaml", "id: other/other\n")
    user.write("more/recipe/there.yaml", "# @package _global_\nname: there\nstages: {a: {kind: echo}}\n")
    shown = config(user, "recipe=there", "model=other", f"hydra.searchpath=[file://{user.root}/more]")
    assert (shown["name"], shown["model"]["id"]) == ("there", "other/other")


def test_29_config_name(user) -> None:
    """Another primary config of the user's own; a wrong name is answered."""
    user.write("conf/mine.yaml", "defaults: [config, _self_]\nname: from_mine\n")
    assert config(user, "recipe=demo", "--config-name", "mine", "name=x")["name"] == "x"
    assert config(user, "--config-name", "mine")["name"] == "from_mine"
    assert "Did you mean mine?" in user.call("plan", "recipe=demo", "--config-name", "mne")[2]


def test_30_environment(user, monkeypatch) -> None:
    """A default, a value, and one line when it is missing."""
    monkeypatch.setenv("OUR_SEED", "9")
    assert config(user, "recipe=demo", "seed=${oc.decode:${oc.env:OUR_SEED}}")["seed"] == 9
    assert config(user, "recipe=demo", "name=${oc.env:NOT_SET,fallback}")["name"] == "fallback"
    assert user.call("plan", "recipe=demo", "name=${oc.env:NOT_SET}")[2].count("\n") == 1


def test_31_a_machines_own_file(user) -> None:
    """conf/local/default.yaml, when it is there."""
    assert config(user, "recipe=demo")["hub"] == "modelscope"
    user.write("conf/local/default.yaml", "# @package _global_\nhub: huggingface\n")
    assert config(user, "recipe=demo")["hub"] == "huggingface"


# 32: tests/cli/test_completion.py. 33: test_cli.py (test_a_failed_job_stops_no_other_unless_asked).


def test_34_a_sweep_is_listed_resumed_and_retried(user) -> None:
    """`plan -m` lists; the same command runs only what is missing."""
    told = user.call("-m", "recipe=two", "seed=1,2")[1]
    lost = user.root / "multirun/two/seed=2/second/artifact.json"
    lost.unlink()
    out = user.call("plan", "-m", "recipe=two", "seed=1,2")[1]
    states = {line.split()[0]: " ".join(line.split()[1:-1]) for line in out.splitlines()[1:]}
    assert states == {"seed=1": "complete", "seed=2": "run second"}
    assert user.call("-m", "recipe=two", "seed=1,2")[0] == 0 and lost.is_file()
    assert "\nmultirun/two/seed=1\nfirst (echo)" in told and "\nmultirun/two/seed=2\nfirst (echo)" in told


def test_35_a_sweep_is_frozen_when_it_starts(user) -> None:
    """The first job edits the recipe; the second does not see it."""
    text = (user.root / "plugins/stages/echo.py").read_text()
    edit = 'import pathlib; f = pathlib.Path("recipes/two.yaml"); f.write_text(f.read_text().replace("1e-4", "9"))'
    user.write(
        "plugins/stages/echo.py", text.replace("        if self.fail:", f"        {edit}\n        if self.fail:")
    )
    assert user.call("-m", "recipe=two", "seed=1,2")[0] == 0
    assert "lr: 9" in (user.root / "recipes/two.yaml").read_text()
    late = yaml.safe_load((user.root / "multirun/two/seed=2/config.yaml").read_text())
    assert late["optim"]["lr"] == 1e-4


def test_36_verbose_logging_and_callbacks(user) -> None:
    """hydra.verbose, hydra/job_logging, a callback of the user's own."""
    user.write(
        "seen.py",
        "from hydra.experimental.callback import Callback\n"
        "class Seen(Callback):\n    def on_job_end(self, config, job_return, **kw):\n"
        "        print('SEEN', job_return.status.name)\n",
    )
    sys.path.insert(0, str(user.root))
    try:
        code, out, _ = user.call(
            "recipe=two", "hydra.verbose=true", "hydra/job_logging=disabled", "+hydra.callbacks.seen._target_=seen.Seen"
        )
    finally:
        sys.path.remove(str(user.root))
    assert code == 0 and "SEEN COMPLETED" in out


def test_37_reruns(user) -> None:
    """From the pickle, from .hydra as a config, and from the folder alone (test_folder.py)."""
    pickle = "+hydra.callbacks.pickle._target_=hydra.experimental.callbacks.PickleJobInfoCallback"
    assert user.call("recipe=two", pickle)[0] == 0
    made = user.root / "outputs/two/second/artifact.json"
    made.unlink()
    code, out, told = user.call("--experimental-rerun", "outputs/two/.hydra/config.pickle")
    assert (code, told) == (0, "") and made.is_file() and "reused" in out
    (user.root / "recipes/two.yaml").unlink()
    code, out, told = user.call(
        "--config-path", str(user.root / "outputs/two/.hydra"), "--config-name", "config", "optim.lr=5", "name=again"
    )
    assert (code, told) == (0, "")
    assert yaml.safe_load((user.root / "outputs/again/config.yaml").read_text())["optim"]["lr"] == 5
    assert user.call("--experimental-rerun", "nowhere.pickle")[0] == 2


def test_38_the_objective_is_the_tasks_return_value(user, monkeypatch) -> None:
    """What a sweeper such as Optuna's is given."""
    from runner.cli import sweep

    returned = []
    monkeypatch.setattr(sweep, "show", lambda planned, ended: returned.extend(ended))
    assert user.call("-m", "recipe=two", "stages.second.score=1,2", "objective=second.score")[0] == 0
    assert [item.return_value for item in returned] == [1.0, 2.0]


def test_39_compose_in_a_notebook(user) -> None:
    """Ours, and Hydra's own after `ready()`."""
    assert composer(["recipe=demo", "optim.lr=3"]).values()["optim"]["lr"] == 3
    ready()
    GlobalHydra.instance().clear()
    with initialize_config_module("runner", version_base="1.3"):
        assert compose("config", overrides=["+recipe=demo", "model=small"]).model.id == "small/small"


def test_40_workers_take_the_resolved_config_and_no_overrides(user) -> None:
    """job.yaml is all: the same stage again, from another folder, without the recipe."""
    user.call("recipe=two", "optim.lr=3")
    shutil.rmtree(user.root / "recipes")
    stage = user.root / "outputs/two/second"
    (stage / "artifact.json").unlink()
    subprocess.run(
        [sys.executable, "-m", "runner.worker", str(stage)], cwd="/", check=True, timeout=60, capture_output=True
    )
    assert (stage / "artifact.json").is_file()
    assert not (user.root / "outputs/two/second/.hydra").exists()


def test_41_a_package_may_add_recipes(user) -> None:
    """By a SearchPathPlugin of its own."""
    user.write(
        "pack/recipe/packed.yaml", "# @package _global_\nname: packed\nmodel: {id: a/b}\nstages: {a: {kind: echo}}\n"
    )

    class Pack(SearchPathPlugin):
        def manipulate_search_path(self, search_path) -> None:
            search_path.append("pack", f"file://{user.root}/pack")

    Plugins.instance().register(Pack)
    try:
        assert config(user, "recipe=packed")["name"] == "packed"
    finally:
        Plugins.instance().plugin_type_to_subclass_list[SearchPathPlugin].remove(Pack)


def test_42_the_jobs_name(user) -> None:
    """Not `__main__`."""
    assert user.call("recipe=demo", "--cfg", "hydra", "-p", "hydra.job.name")[1].strip() == "runner"
