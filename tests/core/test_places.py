"""Where recipes, configs and plugins are looked for."""

from pathlib import Path

import pytest

from runner.core.places import cache_folder, package_root, roots


def test_the_package_comes_last_and_holds_the_shipped_folders() -> None:
    assert roots()[-1] == package_root()
    assert all((package_root() / name).is_dir() for name in ("conf", "recipes", "plugins"))


def test_the_users_places_come_first_each_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert roots() == [tmp_path, package_root()]
    assert roots(str(tmp_path / "own"), "plugs") == [tmp_path / "own", tmp_path / "plugs", package_root()]
    assert roots(str(tmp_path), str(tmp_path)) == [tmp_path, package_root()]


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"RUNNER_CACHE": "/own", "XDG_CACHE_HOME": "/xdg"}, "/own"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/runner"),
        ({"HOME": "/home/me"}, "/home/me/.cache/runner"),
    ],
)
def test_the_cache(variables: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RUNNER_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(folder)
