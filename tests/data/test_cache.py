"""The cache of encoded mixes: entries appear whole, are shared, listed and cleared."""

import os
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread

import pytest

from runner.core.places import PACKAGE
from runner.data import cache


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own."""
    monkeypatch.setenv("RUNNER_CACHE", str(tmp_path))
    return tmp_path


def make(folder: Path) -> dict[str, int]:
    """An entry with one file."""
    (folder / "data").write_text("x" * 10)
    return {"rows": 1}


def test_an_entry_is_made_once() -> None:
    """And found afterwards."""
    folder, found = cache.kept("a" * 16, make)
    assert not found and (folder / "data").is_file()
    assert cache.kept("a" * 16, lambda _: pytest.fail("made again")) == (folder, True)


def test_an_entry_that_fails_leaves_nothing() -> None:
    """The next run makes it."""

    def broken(folder: Path) -> dict[str, int]:
        (folder / "data").write_text("half")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        cache.kept("b" * 16, broken)
    assert cache.entries() == []
    assert [file for file in cache.place().iterdir() if file.is_dir()] == []
    assert cache.kept("b" * 16, make)[1] is False


def test_a_half_entry_is_made_anew() -> None:
    """As a run leaves it that was killed at the wrong moment."""
    (cache.place() / ("c" * 16)).mkdir(parents=True)
    assert cache.kept("c" * 16, make)[1] is False
    assert len(cache.entries()) == 1


@pytest.mark.parametrize(("name", "content"), [("data", "x"), ("about.json", ""), ("about.json", "[1]")])
def test_an_entry_that_was_cut_is_made_anew(name: str, content: str) -> None:
    """As a machine that went off leaves it: it was read, and that was a traceback each time."""
    folder, _ = cache.kept("d" * 16, make)
    (folder / name).write_text(content)
    assert len(cache.entries()) == (name == "data")
    assert cache.kept("d" * 16, make) == (folder, False)
    assert (folder / "data").read_text() == "x" * 10 and len(cache.entries()) == 1


def test_two_runs_make_it_once() -> None:
    """The second waits for the first."""
    made: list[str] = []

    def slow(folder: Path) -> dict[str, int]:
        made.append("begun")
        time.sleep(0.3)
        return make(folder)

    threads = [Thread(target=cache.kept, args=("d" * 16, slow)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == ["begun"]


def test_entries_are_listed_and_cleared() -> None:
    """By key, by age, or all."""
    for name in ("a", "b", "c"):
        cache.kept(name * 16, make)
    os.utime(cache.place() / ("b" * 16) / cache.ABOUT, (0, 0))
    assert [entry.key[0] for entry in cache.entries()][-1] == "b"
    assert all(entry.size >= 10 and entry.about["rows"] == 1 for entry in cache.entries())
    assert [entry.key[0] for entry in cache.clear(older_than=3600)] == ["b"]
    assert [entry.key[0] for entry in cache.clear({"cc"})] == ["c"]
    assert len(cache.clear()) == 1 and cache.entries() == []


def test_the_key_follows_its_parts() -> None:
    """Any of them."""
    assert cache.key({"a": 1}) == cache.key({"a": 1}) != cache.key({"a": 2})


def test_without_a_cache_nothing_is_left_behind(tmp_path: Path) -> None:
    """Each such run left its encoded rows in the folder of temporary files."""
    text = "from runner.data import cache\nfolder, _ = cache.kept('k', lambda side: {})\nassert folder.is_dir()\n"
    environment = {**os.environ, "RUNNER_CACHE": "/proc/none", "TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", text], env=environment, cwd=PACKAGE.parent, check=True)
    assert list(tmp_path.iterdir()) == []
