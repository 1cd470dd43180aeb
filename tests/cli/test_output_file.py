"""What `--output` names: a new file, refused before any work where something lies there already."""

import json
import os
from typing import Any

import pytest

from tests.cli.test_inspect import user  # noqa: F401 - a fixture

ANSWERS = json.dumps({"messages": [{"role": "user", "content": "q"}], "response": "a"}) + "\n"
REWARD = "def one(completions): return [1.0] * len(completions)\n"


@pytest.mark.parametrize("verb", ["inspect", "reward"])
def test_what_is_there_already_is_never_overwritten(user: Any, verb: str) -> None:  # noqa: F811
    """The data or the answers themselves were replaced by what was said about them, /dev/null by a file."""
    user.write("answers.jsonl", ANSWERS)
    user.write("plugins/rewards/one.py", REWARD)
    words = {"inspect": ["inspect", "+recipe=mine"], "reward": ["reward", "answers.jsonl", "reward=[one]"]}[verb]
    held = {name: (user.root / name).read_bytes() for name in ("rows.jsonl", "answers.jsonl")}
    os.symlink("nowhere", user.root / "link")
    for name, told in {
        "rows.jsonl": "rows.jsonl is there already. Name another file, or remove that one.",
        "answers.jsonl": "answers.jsonl is there already. Name another file, or remove that one.",
        "link": "link is there already. Name another file, or remove that one.",
        os.devnull: f"{os.devnull} is there already. Name another file, or remove that one.",
        "model": "model is a folder. Name a file in it: model/rows.jsonl.",
        "rows.jsonl/x/y": f"rows.jsonl/x/y lies below {user.root}/rows.jsonl, which is no folder. Name a file in a"
        " folder.",
    }.items():
        assert user.call(*words, "--output", name) == (2, "", f"--output: {told}\n")
    assert {name: (user.root / name).read_bytes() for name in held} == held
    assert user.call(*words, "--output", "new/er.jsonl")[0] == 0
    assert (user.root / "new/er.jsonl").read_text().count("\n") == {"inspect": 4, "reward": 1}[verb]
