"""Finds the files behind what a recipe calls a model, and tells base and adapter apart.

Anything goes that a person has at hand: a hub id, a folder with weights, a folder with an adapter, a run, one of its
stages, a checkpoint, a file that a package carries, a GGUF file. Loads nothing and needs no heavy library, except where
a GGUF file has yet to be converted.
"""

import contextlib
import dataclasses
from dataclasses import dataclass
from pathlib import Path

from runner.core import artifact
from runner.core.errors import ConfigError, ModelError
from runner.core.job import JOB_FILE
from runner.core.places import expanded
from runner.core.specs import STAGE, Model
from runner.models import hub as hubs
from runner.models import package
from runner.models.facts import facts

CONFIG, ADAPTER = "config.json", "adapter_config.json"
PLAN, CHECKPOINT, CHECKPOINT_MARK = "plan.json", "checkpoint-", "complete.json"


@dataclass(frozen=True)
class Located:
    """base: folder with weights, config and tokenizer. adapter: folder of the adapter on it.

    name: how the base is called where others look for it: a hub id, `package:...`, or an absolute folder. trusted:
    whether Python code that the base brings may run. revision: of the base on its hub, where one was asked for.
    """

    base: Path
    adapter: Path | None = None
    name: str = ""
    trusted: bool = False
    revision: str | None = None


def locate(model: Model, hub: str) -> Located:
    """Find a model, downloading or converting it where that is needed.

    Args:
        hub: modelscope or huggingface.

    Raises:
        ModelError: nothing there, a folder without a model, an adapter without its base, a hub that does not answer.
    """
    folder = _folder(model.id, model.revision, hub, model.trust_remote_code)
    if not is_adapter(folder):
        base = Located(folder, None, _name(model.id, folder), model.trust_remote_code, model.revision)
    elif model.adapter is not None:
        raise ModelError(
            f"{folder}: is an adapter itself, and model.adapter={model.adapter} names another. Merge one first."
        )
    else:
        base = _under(folder, hub, model.trust_remote_code)
    if model.adapter is None:
        return base
    adapter = _folder(model.adapter, None, hub, False, "model.adapter")
    if not is_adapter(adapter):
        raise ModelError(f"model.adapter: {adapter} holds a whole model ({CONFIG}). Pass it as model.id.")
    return dataclasses.replace(base, adapter=adapter)


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter and no whole model beside it."""
    return (folder / ADAPTER).is_file() and not any(folder.glob("model*.safetensors"))


def check(model: Model, key: str) -> None:
    """Refuse at plan time what is plainly not there: a path that does not exist, a package that is not installed.

    Raises:
        ConfigError: with the key, for example `model.id`.
    """
    for field, name in (("id", model.id), ("adapter", model.adapter)):
        if name is None or name.startswith(STAGE):
            continue
        if name.startswith(package.MARK):
            try:
                package.packaged_file(name)
            except ModelError as error:
                raise ConfigError(f"{key}.{field}", str(error)) from None
        elif not is_hub_id(name) and not expanded(name).exists():
            raise ConfigError(
                f"{key}.{field}", f"no folder {name!r} here", "Give a folder that exists, or a hub id (org/name)."
            )


def is_hub_id(name: str) -> bool:
    """Whether a name may be a hub's: org/model."""
    return hubs.HUB_ID.fullmatch(name) is not None and not name.startswith(".")


def _name(said: str, folder: Path) -> str:
    """Hub ids and packages keep their name; what lies here is called by its absolute folder."""
    here = expanded(said).exists()
    return said if not here and (said.startswith(package.MARK) or is_hub_id(said)) else str(folder)


def _folder(name: str, revision: str | None, hub: str, code: bool, key: str = "model.id") -> Path:
    """The folder that holds config.json or adapter_config.json."""
    path = package.packaged_file(name) if name.startswith(package.MARK) else expanded(name)
    if path.is_dir():
        return _inside(path.resolve())
    if path.is_file():
        return _file(path.absolute())  # a hub's cache links to a file without the name
    if not is_hub_id(name):
        raise ModelError(f"{key}: no folder {name} here. Give a folder that exists, or a hub id (org/name).")
    return hubs.download(name, revision, hub, key=key, code=code)


def _file(path: Path) -> Path:
    from runner.models import gguf

    if path.suffix != ".gguf":
        raise ModelError(f"{path}: is a file. Give the model's folder, or a .gguf file.")
    return gguf.converted(path)


def _inside(folder: Path) -> Path:
    """From a local folder of any kind to the one with the model or adapter in it."""
    if (folder / CONFIG).is_file() or (folder / ADAPTER).is_file():
        return _whole(folder)
    made = artifact.read(folder)
    if made is not None:
        return _made(folder, made)
    if (folder / PLAN).is_file():
        return _last_of_run(folder)
    if (folder / JOB_FILE).is_file():
        raise ModelError(f"{folder}: this stage is not complete.{_checkpoints(folder)}")
    raise ModelError(f"{folder}: holds no model: neither {CONFIG} nor {ADAPTER}, and it is no run and no stage of one.")


def _whole(folder: Path) -> Path:
    """A checkpoint of ours carries a mark once it is whole; other folders are taken as they are."""
    ours = folder.name.startswith(CHECKPOINT) and (folder.parent / JOB_FILE).is_file()
    if ours and not (folder / CHECKPOINT_MARK).is_file():
        raise ModelError(f"{folder}: this checkpoint was not written to its end.{_checkpoints(folder.parent)}")
    return folder


def _made(folder: Path, made: artifact.Artifact) -> Path:
    """What a complete stage made. The run may have been moved since: then it lies under the same name in the stage."""
    if made.kind not in ("model", "adapter"):
        raise ModelError(
            f"{folder}: this stage made {made.kind}, not a model or an adapter. Name another stage of the run."
        )
    for place in (Path(made.path), folder / Path(made.path).name, folder):
        if (place / CONFIG).is_file() or (place / ADAPTER).is_file():
            return place.resolve()
    raise ModelError(
        f"{folder}: what this stage made is gone: {made.path} holds no model. Remove {folder / artifact.FILE}, and the "
        "run's own command makes it again."
    )


def _last_of_run(folder: Path) -> Path:
    """The model or adapter of the last complete stage that made one, in the order of the plan."""
    stages = [str(stage["name"]) for stage in facts(folder / PLAN).get("stages") or ()]
    for name in reversed(stages):
        made = artifact.read(folder / name)
        if made is not None and made.kind in ("model", "adapter"):
            return _made(folder / name, made)
    begun = next((told for name in reversed(stages) if (told := _checkpoints(folder / name))), "")
    raise ModelError(f"{folder}: no stage of this run has made a model or an adapter yet.{begun}")


def _checkpoints(stage: Path) -> str:
    """Advice on the newest checkpoint of a stage, or nothing."""
    whole = [mark.parent for mark in stage.glob(f"{CHECKPOINT}*/{CHECKPOINT_MARK}")]
    newest = max(whole, key=lambda path: int(path.name.removeprefix(CHECKPOINT)), default=None)
    return f" Its newest checkpoint can be taken: {newest}" if newest else ""


def _under(adapter: Path, hub: str, code: bool) -> Located:
    """An adapter with the base that it names."""
    told = facts(adapter / ADAPTER)
    name = told.get("base_model_name_or_path")
    advice = f"Name the base: model.id=BASE model.adapter={adapter}"
    if not name or not isinstance(name, str):
        raise ModelError(f"{adapter / ADAPTER}: names no base model. {advice}")
    try:
        base = _folder(name, told.get("revision"), hub, code)
    except ModelError as error:
        trained = _trained_on(adapter)
        if trained is not None:  # a checkpoint knows where its base lay; the stage knows how it is called
            with contextlib.suppress(ModelError):
                found = locate(dataclasses.replace(trained, trust_remote_code=code), hub)  # trust is said anew
                return dataclasses.replace(found, adapter=adapter)
        raise ModelError(f"{adapter}: the base of this adapter cannot be had. {error} {advice}") from None
    if is_adapter(base):
        raise ModelError(f"{adapter}: its base {base} is an adapter too. Merge that one first.")
    return Located(base, adapter, _name(name, base), code, told.get("revision"))


def _trained_on(adapter: Path) -> Model | None:
    """The model of the stage that made an adapter, by its work order."""
    import yaml

    order = adapter.parent / JOB_FILE
    try:
        given = yaml.safe_load(order.read_text(encoding="utf-8"))["stage"]["model"]
        return Model(**given) if given["id"] else None
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
        return None  # there is none, it is damaged, or of another version
