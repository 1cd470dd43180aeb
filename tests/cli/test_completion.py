"""Completion of `runner` in shells: line 32 of the Hydra user's list (tests/test_hydra.py has the others)."""

import os
import shutil
import stat
import subprocess
import sys

import pytest


@pytest.fixture
def user(project):
    """The project with a model and a recipe of its own."""
    project.write("conf/model/tiny.yaml", "# A tiny model.\nid: tiny/tiny\n")
    project.recipe("# Uses a group.\nname: demo\nmodel: a/b\nstages: {a: {kind: echo}}\n", "demo")
    return project


@pytest.fixture
def installed(user, monkeypatch):
    """A command `runner` on the PATH, as the wheel installs it."""
    script = user.root / "bin/runner"
    script.parent.mkdir()
    script.write_text(f"#!/bin/sh\nexec {sys.executable} -c 'import sys; sys.argv[0] = \"runner\"; "
                      "from runner.__main__ import main; sys.exit(main())' \"$@\"\n")  # fmt: skip
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    return user


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("runner pl", {"plan"}),
        ("runner plan recipe=de", {"recipe=demo"}),
        ("runner +recipe=de", {"+recipe=demo"}),
        ("runner recipe=two train_type=q", {"train_type=qlora"}),
        ("runner recipe=two optim.w", {"optim.warmup=", "optim.weight_decay="}),
        ("runner explain recipe=two optim.w", {"optim.warmup", "optim.weight_decay"}),
        ("runner recipe=two stages.fir", {"stages.first."}),
        ("runner recipe=two model=t", {"model=tiny"}),
        ("runner list rew", {"rewards"}),
        ("runner recipe=nope optim.l", set()),
        ("runner -m recipe=two hydra/launcher=b", {"hydra/launcher=basic"}),
        ("python -m runner recipe=de", {"recipe=demo"}),
    ],
)
def test_completion_answers(user, monkeypatch, line: str, wanted: set[str]) -> None:
    """Verbs, recipes, groups, options and keys; silence where the line is wrong."""
    monkeypatch.setenv("COMP_LINE", line)
    code, out, told = user.call("-sc", "query=fish")
    assert (code, told) == (0, "")
    assert wanted == set(out.split()) or (wanted and wanted <= set(out.split()))


def test_completion_in_bash(installed) -> None:
    """Installed and asked as bash does it."""
    script = """
        eval "$(runner -sc install=bash)"
        complete -p runner
        COMP_LINE="runner recipe=de"; COMP_WORDS=(runner recipe=de); COMP_CWORD=1; COMP_POINT=${#COMP_LINE}
        hydra_bash_completion 2>/dev/null
        echo "${COMPREPLY[@]}"
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert "hydra_bash_completion runner" in done.stdout
    assert done.stdout.strip().splitlines()[-1] == "recipe=demo"


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_completion_in_other_shells(installed, shell: str) -> None:
    """zsh takes bash's through bashcompinit; fish has its own."""
    done = subprocess.run(
        ["runner", "-sc", f"install={'bash' if shell == 'zsh' else shell}"], capture_output=True, text=True, check=True
    )
    assert "runner" in done.stdout
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    scripts = {
        "zsh": 'autoload -Uz compinit bashcompinit; compinit -u; bashcompinit; eval "$(runner -sc install=bash)"; '
               'COMP_LINE="runner recipe=de" COMP_POINT=16 runner -sc query=bash',
        "fish": "runner -sc install=fish | source; complete -C 'runner recipe=de'",
    }  # fmt: skip
    asked = subprocess.run([shell, "-c", scripts[shell]], capture_output=True, text=True, timeout=60)
    assert "recipe=demo" in asked.stdout, asked.stderr
