"""`runner diff RUN RUN`: what differs between two runs: config, data and plugins, code, packages, machine, figures."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from runner import folder
from runner.core import artifact
from runner.core.errors import ConfigError

PARTS = ("config", "data and plugins", "code", "packages", "machine", "figures")


def main(words: Sequence[str], places: Sequence[Path] = ()) -> int:
    """Print the differences, a section a part.

    Raises:
        ConfigError: not two run folders.
    """
    if len(words) != 2:
        raise ConfigError("diff", f"takes two run folders, not {len(words)}", "Write: diff outputs/a outputs/b.")
    left, right = (describe(Path(word)) for word in words)
    print(f"- {words[0]}\n+ {words[1]}")
    same = []
    for part in PARTS:
        changes = list(differences(left[part], right[part]))
        if not changes:
            same.append(part)
            continue
        print(f"\n{part}")
        width = max(len(key) for key, _, _ in changes)
        for key, old, new in changes:
            print(f"  {key:<{width}}  {old} -> {new}")
    if same:
        print(f"\nthe same: {', '.join(same)}")
    return 0


def describe(run: Path) -> dict[str, dict[str, Any]]:
    """A run's parts, each as flat keys and values.

    Raises:
        ConfigError: the folder holds no run. DataError: a file of it cannot be read.
    """
    if not (run / "config.yaml").is_file() or not (run / "provenance.json").is_file():
        raise ConfigError(
            "diff", f"{str(run)!r} is no run folder", "A run's folder holds config.yaml and provenance.json."
        )
    config, told = folder.read(run / "config.yaml"), folder.read(run / "provenance.json")
    stages = sorted(file.parent for file in run.glob(f"*/{artifact.FILE}"))
    return {
        "config": dict(flat({key: value for key, value in config.items() if key not in ("name", "output_dir")})),
        "data and plugins": dict(flat(told.get("sources") or {}, " ")),
        "code": dict(flat({"git": told.get("git"), "runner": told.get("runner"), "python": told.get("python")})),
        "packages": dict(flat(told.get("packages") or {}, " ")),
        "machine": dict(flat(told.get("hardware") or {})),
        "figures": dict(flat({stage.name: dict(made.metrics) for stage in stages if (made := artifact.read(stage))})),
    }


def differences(left: Mapping[str, Any], right: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(key, left, right) of each key that differs; numbers with the difference in percent."""
    for key in {**left, **right}:
        old, new = left.get(key, "(absent)"), right.get(key, "(absent)")
        if old == new:
            continue
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (old, new))
        change = f"  ({(new - old) / abs(old):+.1%})" if numbers and old else ""
        yield key, _short(old), _short(new) + change


def flat(value: Any, mark: str = ".", key: str = "") -> Iterator[tuple[str, Any]]:
    """Nested mappings as dotted keys; lists are values."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from flat(item, mark, f"{key}{mark}{name}" if key else str(name))
    else:
        yield key, value


def _short(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
