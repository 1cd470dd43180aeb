"""The command as a person uses it: help, list, plan, run, sweeps, the user's own folder."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

HEAVY = ("torch", "transformers", "datasets", "peft", "accelerate", "trl", "vllm", "matplotlib")


def test_help_lists_recipes_with_their_first_line(project) -> None:
    """`--help` anywhere, and no words at all."""
    for words in (["--help"], [], ["plan", "-h"]):
        code, out, _ = project.call(*words)
        assert code == 0
        assert "two" in out and "Two echoes, the second needs the first." in out
        assert "python -m runner +recipe=NAME" in out


def test_list_tells_where_a_choice_comes_from(project) -> None:
    """The user's file wins, and the line says what it hides."""
    project.write("conf/train_type/lora.yaml", "# My own LoRA.\nkind: lora\n")
    project.write("plugins/rewards/short.py", 'def short(completions):\n    """Short answers."""\n')
    code, out, _ = project.call("list", "train_types", "rewards", "stages", "recipes")
    lines = {line.split()[0]: line for line in out.splitlines() if line.startswith("  ")}
    assert code == 0
    assert (
        "My own LoRA." in lines["lora"] and "(hides " in lines["lora"] and "conf/train_type/lora.yaml)" in lines["lora"]
    )
    assert "hides" not in lines["full"]
    assert "Short answers." in lines["short"] and "Says words" in lines["echo"] and "Two echoes" in lines["two"]


def test_a_letter_that_the_terminal_lacks_ends_nothing(tmp_path) -> None:
    """An arrow in a recipe's first line, and a folder's name, where the locale knows ASCII alone."""
    place = tmp_path / "f\u00fcr mich"
    (place / "recipes").mkdir(parents=True)
    (place / "rows.jsonl").write_text('{"query": "a", "response": "b"}\n' * 3)
    recipe = "# mine \u2190 first\nname: mine\nmodel: a/b\nmix: {datasets: [rows.jsonl]}\nstages: {a: {kind: sft}}\n"
    (place / "recipes" / "mine.yaml").write_text(recipe, encoding="utf-8")
    ascii_only = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ascii_only["PYTHONPATH"] = str(Path(__file__).parent.parent)
    for words, sign in ((["list", "recipes"], "mine \\u2190 first"), (["plan", "+recipe=mine"], "3 rows")):
        command = [sys.executable, "-m", "runner", *words]
        done = subprocess.run(command, cwd=place, env=ascii_only, capture_output=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        assert sign in done.stdout.decode("ascii")


def test_output_that_nobody_reads_is_no_failure(project) -> None:
    """`| head` ended tables with 1, and a closed standard output with a traceback."""
    project.recipe(
        "# x\nname: mine\nmodel: a/b\nstages: {" + ", ".join(f"a{n}: {{kind: echo}}" for n in range(600)) + "}\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    for words in ("plan +recipe=mine | head -1; exit ${PIPESTATUS[0]}", "list recipes >&-", "list nope 2>&-"):
        command = ["bash", "-c", f"{sys.executable} -m runner {words}"]
        done = subprocess.run(command, cwd=project.root, env=environment, capture_output=True, timeout=120, check=False)
        assert (done.returncode, done.stderr) == (2 if "nope" in words else 0, b""), words


def test_what_an_extra_brings_is_named_by_one_sentence(project) -> None:
    """A stage that imports torch where the core alone is installed: exit 2, no traceback, from the worker too."""
    project.write("sitecustomize.py", "import sys\nsys.modules['torch'] = None\n")
    project.write("rows.jsonl", '{"query": "a", "response": "b"}\n' * 3)
    project.write(
        "recipes/mine.yaml",
        "# mine\nname: mine\nmodel: {id: tiny}\nmix: {datasets: [rows.jsonl]}\nstages: {a: {kind: sft}}\n",
    )
    project.write("tiny/config.json", "{}")
    where = os.pathsep.join([str(project.root), str(Path(__file__).parent.parent)])
    command = [sys.executable, "-m", "runner", "+recipe=mine"]
    environment = {**os.environ, "PYTHONPATH": where}
    done = subprocess.run(command, cwd=project.root, env=environment, capture_output=True, timeout=60, check=False)
    assert (done.returncode, b"Traceback" in done.stderr) == (2, False)
    assert b"torch is not installed. Install the extra: train." in done.stderr


def test_a_plugin_without_a_docstring_is_told_by_its_first_comment(project) -> None:
    """Of every kind, as a recipe is."""
    project.write("plugins/formats/faq.py", "# plugins/formats/faq.py: a question in q\ndef faq(row): ...\n")
    project.write("plugins/loss_scales/half.py", "# half: less\ndef half(span, *, weight=0.5): ...\n")
    assert "  faq             plugins/formats/faq.py: a question in q\n" in project.call("list", "formats")[1]
    assert "half: less\n" in project.call("list", "loss_scales")[1]


def test_list_refuses_what_it_does_not_know(project) -> None:
    """With the nearest kind."""
    assert project.call("list", "recip") == (2, "", "list: no kind named 'recip'. Did you mean recipes?\n")
    for group, kind in (("parallelism", "parallelisms"), ("mix", "mixes"), ("reward", "rewards")):
        assert project.call("list", group) == project.call("list", kind)
    rules = project.call("list", "loss_scales")[1]
    assert "  hermes " in rules  # a file of conf/loss_scale
    assert "Train what the assistant says after the last user message" in rules


def test_the_users_folder_wins_and_may_lie_elsewhere(project) -> None:
    """`--config-dir` and `plugins_path` find recipes, configs and plugins."""
    project.write("away/recipes/far.yaml", "# far\nname: far\nmodel: a/b\nstages: {a: {kind: distant}}\n")
    text = (project.root / "plugins/stages/echo.py").read_text().replace("class Echo", "class Distant")
    project.write("away/plugins/stages/distant.py", text)
    code, out, told = project.call("plan", "recipe=far", "--config-dir", "away")
    assert (code, told) == (0, "") and "distant" in out
    assert "far" in project.call("list", "recipes", "--config-dir", "away")[1]
    (project.root / "recipes/near.yaml").write_text((project.root / "away/recipes/far.yaml").read_text())
    assert project.call("plan", "recipe=near")[0] == 2
    assert project.call("plan", "recipe=near", "plugins_path=away")[0] == 0
    project.write("other/mine.yaml", "# mine\nname: there\nmodel: a/b\nstages: {a: {kind: echo}}\n")
    for place in ("other/mine.yaml", str(project.root / "other/mine.yaml"), f"../{project.root.name}/other/mine.yaml"):
        assert project.call("plan", f"recipe={place}")[1].startswith("there ")  # a relative path was not found
    for words, wrong in {
        ("plan", "recipe=near", "plugins_path=awry"): "command line: plugins_path: no folder 'awry'.",
        ("plan", "recipe=near", "--config-dir"): "command line: --config-dir has no value. Write --config-dir VALUE.",
        ("list", "recipes", "--config-dir", "awry"): "--config-dir: no folder 'awry'.",
        ("list", "recipes", "--whole"): "list: takes no flag --whole. It takes --config-dir DIR.",
    }.items():
        code, _, told = project.call(*words)
        assert code == 2 and told.startswith(wrong) and told.count("\n") == 1


def test_plugins_path_may_be_said_by_the_recipe(project) -> None:
    """It was taken from the command line alone: a recipe's did nothing, and a run made with one could not be rerun."""
    text = (project.root / "plugins/stages/echo.py").read_text().replace("class Echo", "class Distant")
    project.write("away/plugins/stages/distant.py", text)
    project.write("away/plugins/rewards/far.py", "def far(completions): return [1.0] * len(completions)\n")
    project.write("rows.jsonl", '{"messages": [], "response": "a"}\n')
    project.recipe("# x\nname: mine\nplugins_path: away\nmodel: a/b\nreward: {far: {}}\nstages: {a: {kind: distant}}\n")
    assert project.call("explain", "+recipe=mine", "stages.a.kind")[0] == 0
    assert project.call("reward", "rows.jsonl", "+recipe=mine")[0] == 0
    assert project.call("+recipe=mine")[0] == 0
    code, out, _ = project.call("rerun", "outputs/mine")
    assert code == 0 and "reused, complete" in out


def test_the_command_line_wins_over_a_recipe(project) -> None:
    """Values, in either order, and choices of a group too, which Hydra alone would merge below the recipe."""
    project.write("conf/model/tiny.yaml", "# tiny\nid: tiny/tiny\n")
    project.recipe(
        "# x\nname: mine\nmodel: {id: a/b, dtype: float32}\ntrain_type: {kind: lora, lora: {rank: 16}}\n"
        "loss_scale: [{last: {}}]\nreward: [r]\nstages: {a: {kind: echo}}\n"
    )
    for name in ("rewards/r", "rewards/s", "loss_scales/last"):
        project.write(f"plugins/{name}.py", f"def {name[-4:].strip('s/')}(x): ...\n")
    words = ["optim.lr=7", "recipe=mine", "model=tiny", "train_type=full", "reward=[s]"]
    shown = yaml.safe_load(project.call(*words, "--cfg", "job")[1])
    assert shown["optim"]["lr"] == 7
    assert shown["model"]["id"] == "tiny/tiny" and shown["model"]["dtype"] == "float32"
    assert shown["train_type"]["kind"] == "full" and shown["train_type"]["lora"]["rank"] == 16
    assert list(shown["reward"]) == ["s"] and list(shown["loss_scale"]) == ["last"]


def test_a_run_leaves_its_own_story(project) -> None:
    """config.yaml, .hydra, plan.json, provenance.json, and a folder a stage."""
    assert project.call("recipe=two", "+hub_token=x")[0] == 2
    assert project.call("recipe=two")[0] == 0
    run = project.root / "outputs/two"
    assert yaml.safe_load((run / "config.yaml").read_text())["optim"]["lr"] == 1e-4
    assert {file.name for file in (run / ".hydra").iterdir()} == {"config.yaml", "hydra.yaml", "overrides.yaml"}
    stages = json.loads((run / "plan.json").read_text())["stages"]
    assert [(stage["name"], stage["needs"]) for stage in stages] == [("first", []), ("second", ["first"])]
    order = yaml.safe_load((run / "second/job.yaml").read_text())
    assert order["stage"]["model"]["id"] == str(run / "first")


def test_a_broken_file_hides_no_other_from_a_list(project) -> None:
    """It is told in its line; a folder with a file's ending is none."""
    project.write("plugins/rewards/broken.py", "def broken(:\n")
    (project.root / "recipes" / "latin.yaml").write_bytes(b"# caf\xe9\nname: latin\n")
    for folder in ("recipes/folder.yaml", "plugins/rewards/folder.py"):
        (project.root / folder).mkdir(parents=True)
    code, out, told = project.call("list", "recipes", "rewards")
    assert (code, told) == (0, "") and "folder" not in out
    assert "  accuracy " in out and "  latin " in out
    assert "broken.py:1: is not Python: invalid syntax" in out
    assert project.call("plan", "recipe=folder")[2].startswith(
        "command line: recipe: no recipe named 'folder'. Choices"
    )


def test_light_commands_import_nothing_heavy(project) -> None:
    """Each in a process of its own, which then names what it imported; and it is there soon."""
    commands = [
        "--help",
        "list",
        "plan recipe=two",
        "explain recipe=two optim.lr",
        "recipe=two --cfg job",
        "recipe=two --info defaults",
    ]
    for words in commands:
        code = (
            "import sys; from runner.__main__ import main; code = main(sys.argv[1:]); "
            "print('IMPORTED', *sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr); sys.exit(code)"
        )
        start = time.monotonic()
        done = subprocess.run([sys.executable, "-c", code, *words.split()], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        imported = done.stderr.split("IMPORTED")[1].split()
        assert not set(HEAVY) & set(imported), words
        assert time.monotonic() - start < 10  # the aims are in tests/benchmarks/startup.py
        if words in ("--help", "list"):
            assert not {"hydra", "omegaconf", "pydantic", "rich"} & set(imported), words


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_a_sweep_has_fixed_folders_and_goes_on(project, launcher: str) -> None:
    """The same command twice: the second reuses every job. Other roots are found by the jobs too."""
    if launcher == "joblib":
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    project.write(
        "away/recipes/far.yaml", (project.root / "recipes/two.yaml").read_text().replace("name: two", "name: far")
    )
    for kind in ("echo", "tally"):
        (project.root / f"plugins/stages/{kind}.py").rename(project.root / f"away/{kind}.py")
    (project.root / "away/plugins/stages").mkdir(parents=True)
    for kind in ("echo", "tally"):
        (project.root / f"away/{kind}.py").rename(project.root / f"away/plugins/stages/{kind}.py")
    words = [
        "recipe=far",
        "--config-dir",
        "away",
        "optim.lr=1,2",
        "-m",
        "stages.second.words=a/b",
        f"hydra/launcher={launcher}",
        "parallelism.gpus=1",
    ]
    code, _, told = project.call(*words)
    assert (code, told) == (0, "")
    folders = sorted(folder.name for folder in (project.root / "multirun/far").iterdir() if folder.is_dir())
    assert [name.rpartition("-")[0] for name in folders] == [
        "optim.lr=1,stages.second.words=a_b",
        "optim.lr=2,stages.second.words=a_b",
    ]
    files = sorted((project.root / "multirun/far").glob("*/*/artifact.json"))
    times = [file.stat().st_mtime_ns for file in files]
    assert len(files) == 4
    assert project.call(*words[:-1], "parallelism=ddp", "parallelism.gpus=2")[0] == 0
    assert [file.stat().st_mtime_ns for file in files] == times


def test_a_failed_job_stops_no_other_unless_asked(project) -> None:
    """Its error lies in its folder; the command ends with 1; the next try runs what failed alone."""
    words = ["-m", "recipe=two", "stages.second.fail=boom,null", "stages.second.words=x"]
    code, out, _ = project.call("-m", "recipe=two", "stages.second.fail=boom,''", "objective=second.score")
    sweep = project.root / "multirun/two"
    failed = sweep / "stages.second.fail=boom"
    assert code == 1
    assert "ValueError: boom" in (failed / "error.txt").read_text()
    assert "ValueError: boom" in (failed / "second/log.txt").read_text()
    assert len(list(sweep.glob("*/second/artifact.json"))) == 1
    assert "failed" in out and "0.5" in out
    code, _, _ = project.call(*words[:2], "stages.second.fail=boom,''", "on_failure=stop")
    assert code == 1
    assert len(list(sweep.glob("*/second/artifact.json"))) == 1


def test_a_mistake_in_any_job_refuses_the_sweep_before_it_starts(project) -> None:
    """The second value is wrong: nothing is run, not even the first."""
    code, _, told = project.call("-m", "recipe=two", "optim.lr=1,abc")
    assert (code, told) == (2, "command line: optim.lr: should be a number, not 'abc'.\n")
    assert not (project.root / "multirun").exists()


def test_a_sweep_can_be_planned(project) -> None:
    """`plan -m`: the jobs and their folders, nothing written."""
    code, out, _ = project.call("plan", "-m", "recipe=two", "optim.lr=1,2")
    assert code == 0
    assert "multirun/two/optim.lr=1" in out and "multirun/two/optim.lr=2" in out and "run first, second" in out
    assert not (project.root / "multirun").exists()


def test_an_objective_that_is_not_there_fails(project) -> None:
    """The figures that are there are named."""
    code, _, told = project.call("recipe=two", "objective=second.scor")
    assert code == 1
    assert told == "objective: second has no figure 'scor'. Its figures: score.\n"


def test_ctrl_c_stops_a_sweep_with_all_its_jobs(project) -> None:
    """130, and the next job does not start."""
    text = (project.root / "plugins/stages/echo.py").read_text()
    wait = "        while not job.stopping(): __import__('time').sleep(0.05)\n        raise Interrupted('stopped')\n"
    text = text.replace("        if self.fail:", wait + "        if self.fail:")
    project.write("plugins/stages/echo.py", "from runner.core.errors import Interrupted\n" + text)
    words = [sys.executable, "-m", "runner", "-m", "recipe=two", "seed=1,2"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as sweep:
        assert sweep.stdout is not None
        for line in sweep.stdout:
            if "hello" in line:
                break
        sweep.send_signal(signal.SIGINT)
        sweep.communicate(timeout=60)
    assert sweep.returncode == 130
    assert (project.root / "multirun/two/seed=1/first/log.txt").is_file()
    assert not (project.root / "multirun/two/seed=2").exists()


def test_info_stands_anywhere_and_takes_known_words(project) -> None:
    """An `--info` at the end took the override that was moved behind it; argparse told mistakes by its usage."""
    code, out, told = project.call("+recipe=two", "--info")
    assert (code, told) == (0, "") and "recipe: two" in out
    for words, wrong in {
        ("+recipe=two", "--info", "nope"): "command line: --info cannot show 'nope'. Choices: all, config,",
        ("+recipe=two", "--cfg=jb"): "command line: --cfg cannot show 'jb'. Did you mean job?",
        ("-sc", "install=nope"): "-sc: cannot do 'install=nope'. Write -sc install=bash, install=zsh or install=fish.",
        ("-sc",): "-sc: cannot do 'nothing'. Write -sc install=bash,",
    }.items():
        code, _, told = project.call(*words)
        assert (code, told.count("\n")) == (2, 1) and told.startswith(wrong)
