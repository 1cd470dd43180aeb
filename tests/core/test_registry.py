"""Components by file name: who wins, what is told, and signatures read without importing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner.core import registry
from runner.core.errors import ConfigError, PluginError
from runner.core.places import PACKAGE, package_root

SIGNED = '''
"""About the file."""
import not_installed_anywhere

async def short(completions, *, solution: list[str], limit: int = 10, words: str = "a b", fn=len, **columns):
    """Scores short answers.

    More about it.
    """
'''


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A user's root."""
    (tmp_path / "plugins" / "rewards").mkdir(parents=True)
    return tmp_path


def put(place: Path, name: str, text: str) -> Path:
    """A reward's file in a root."""
    file = place / "plugins" / "rewards" / f"{name}.py"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_a_file_in_front_hides_one_behind(place: Path) -> None:
    mine = put(place, "contains", "def contains(completions): ...\n")
    found = registry.names("rewards", [place, package_root()])
    assert found["contains"] == mine
    assert found["regex"] == package_root() / "plugins/rewards/regex.py"
    assert list(found) == sorted(found)


def test_private_files_are_no_components(place: Path) -> None:
    put(place, "_shared", "")
    assert registry.names("rewards", [place]) == {}


def test_shipped_kinds_are_found_in_the_package(place: Path) -> None:
    assert registry.names("formats", [place])["messages"] == PACKAGE / "formats" / "messages.py"
    assert callable(registry.load("formats", "messages", [place]))


def test_an_unknown_name_is_told_with_the_nearest(place: Path) -> None:
    put(place, "accurate", "")
    with pytest.raises(ConfigError) as refused:
        registry.find("rewards", "acurate", [place], "reward")
    assert str(refused.value) == "reward: no reward named 'acurate'. Did you mean accurate?"


def test_a_plugin_is_loaded_from_its_file(place: Path) -> None:
    put(
        place,
        "shout",
        "WORD = 'A'\ndef shout(completions):\n    return [float(WORD in text) for text in completions]\n",
    )
    assert registry.load("rewards", "shout", [place])(["A", "b"]) == [1.0, 0.0]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("def other(): ...", r"/same\.py: defines neither Same nor same\. Name it like the file\.$"),
        ("import not_installed_anywhere", r"/same\.py: cannot be imported: ModuleNotFoundError: No module named"),
        ("raise SystemExit(3)", r"/same\.py: cannot be imported: SystemExit: 3\.$"),
    ],
)
def test_a_plugin_that_cannot_be_loaded_is_one_sentence(place: Path, text: str, sentence: str) -> None:
    put(place, "same", text)
    with pytest.raises(PluginError, match=sentence):
        registry.load("rewards", "same", [place])


def test_of_a_function_and_a_class_the_one_that_is_called_as_the_file_is_taken(place: Path) -> None:
    """In every process the same: names in a set come in another order in each."""
    put(place, "both", "class Both: ...\ndef both(completions): ...\n")
    code = "import sys; from pathlib import Path; from runner.core.registry import load\n"
    code += "print(load('rewards', 'both', [Path(sys.argv[1])]).__name__)"
    for seed in "123456":
        command = [sys.executable, "-c", code, str(place)]
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(PACKAGE.parent)}
        told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert told.stdout == "both\n"


def test_what_a_plugin_raises_stays_one_sentence(place: Path) -> None:
    """Of a worker's words the last line is shown."""
    put(place, "same", "raise ValueError('First.\\nSecond.')\n")
    with pytest.raises(PluginError, match=r"/same\.py: cannot be imported: ValueError: First\.$"):
        registry.load("rewards", "same", [place])


def test_a_signature_is_read_in_the_encoding_that_python_reads(place: Path) -> None:
    """With the mark that editors on Windows write, or a line that says another one."""
    file = put(place, "marked", "")
    for text in (b"\xef\xbb\xbfdef marked(c): ...\n", b"# coding: latin-1\n# \xe9\ndef marked(c): ...\n"):
        file.write_bytes(text)
        assert registry.signature("rewards", "marked", [place]).name == "marked"
        assert callable(registry.load("rewards", "marked", [place]))
    file.write_bytes(b"def marked(c):\n\0")
    with pytest.raises(PluginError, match=r"/marked\.py(:\d+)?: is not Python: .*null bytes"):
        registry.signature("rewards", "marked", [place])


def test_a_signature_is_read_and_nothing_imported(place: Path) -> None:
    put(place, "short", SIGNED)
    found = registry.signature("rewards", "short", [place])
    assert found == registry.Signature(
        name="short",
        description="About the file.",
        columns=("solution",),
        params=(("limit", "10"), ("words", "'a b'"), ("fn", "len")),
        takes_all_columns=True,
        is_async=True,
    )


def test_a_signature_that_is_not_there_is_told(place: Path) -> None:
    put(place, "broken", "def broken(:\n")
    put(place, "absent", "x = 1\n")
    with pytest.raises(PluginError, match=r"/broken\.py:1: is not Python"):
        registry.signature("rewards", "broken", [place])
    with pytest.raises(PluginError, match=r"/absent\.py: has no function named absent\. Name it like the file\.$"):
        registry.signature("rewards", "absent", [place])


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"limit": 5}, ""),
        ({"limit": 5.5, "fn": "anything"}, ""),
        ({"words": None}, ""),
        ({"limt": 5}, "reward.short.limt: short takes no such parameter (value 5). Did you mean limit?"),
        ({"solution": 5}, "reward.short.solution: short takes no such parameter (value 5). Choices: fn, limit, words."),
        ({"limit": "5"}, "reward.short.limit: should be like its default 10, not '5'."),
        ({"limit": True}, "reward.short.limit: should be like its default 10, not True."),
        ({"words": 5}, "reward.short.words: should be like its default 'a b', not 5."),
    ],
)
def test_parameters_are_checked_against_the_signature(place: Path, params: dict[str, object], sentence: str) -> None:
    put(place, "short", SIGNED)
    try:
        registry.check_params("rewards", "short", params, [place], "reward.short")
        told = ""
    except ConfigError as error:
        told = str(error)
    assert told == sentence
