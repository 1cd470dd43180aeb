"""Which files of a folder make up a model or an adapter; the rest (optimizer, caches, logs) is nobody's business.

Refuses a folder without weights that can be loaded: safetensors.
"""

from pathlib import Path

from runner.core.errors import ModelError
from runner.models.facts import facts
from runner.models.locate import ADAPTER, CONFIG, Located

README = "README.md"
KINDS = {".json", ".safetensors", ".jinja", ".txt", ".model", ".tiktoken", ".py", ".md"}
NAMED = ("LICENSE", "NOTICE", "USE_POLICY")
OURS = {"complete.json", "trainer_state.json", "artifact.json", "plan.json", "provenance.json", "log.txt"}
UNTOUCHED = ("# Model Card for Model ID", "[More Information Needed]")  # what peft writes into every adapter's folder


def contents(located: Located) -> tuple[dict[str, Path], list[str]]:
    """The files to send by name, and the names of those that stay.

    Raises:
        ModelError: no weights, no config, or files of a sharded model that its index names are missing.
    """
    folder = located.adapter or located.base
    inside = sorted(file for file in folder.iterdir() if not file.name.startswith("."))
    sent = {file.name: file for file in inside if file.is_file() and _is_part(file.name)}
    config, weights = (ADAPTER, "adapter_model.safetensors") if located.adapter else (CONFIG, None)
    if config not in sent:
        raise ModelError(f"{folder}: is no model's folder: it holds no {config}.")
    if weights not in sent if weights else not any(name.endswith(".safetensors") for name in sent):
        raise ModelError(f"{folder}: holds no weights ({weights or '*.safetensors'}): nothing to send.")
    missing = _shards(folder) - sent.keys()
    if missing:
        raise ModelError(f"{folder}: {sorted(missing)[0]} is missing, and the model's index names it.")
    return sent, [file.name for file in inside if file.name not in sent]


def written_by_hand(readme: Path) -> bool:
    """Whether somebody wrote it: it is not the form that peft lays into every folder."""
    text = readme.read_text(encoding="utf-8", errors="replace")
    return not all(words in text for words in UNTOUCHED)


def base_here(adapter: Path) -> str | None:
    """The base that an adapter's config names, where it is a folder of this machine."""
    name = str(facts(adapter / ADAPTER).get("base_model_name_or_path") or "")
    return name if Path(name).is_absolute() else None


def _is_part(name: str) -> bool:
    known = Path(name).suffix in KINDS or name.startswith(NAMED)
    return known and name not in OURS


def _shards(folder: Path) -> set[str]:
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return set()
    named = facts(index).get("weight_map")
    if not isinstance(named, dict):
        raise ModelError(f"{index}: names no files (weight_map). Copy or download it again.")
    return set(map(str, named.values()))
