"""Turns a composed config into a checked run graph, without importing anything heavy and without writing anything.

Each stage becomes a `Step`: its component built from its own keys over the shared layers, the stages it needs, its
fingerprint, and whether it runs or its finished work is reused, with the reason. Cycles, dangling names, artifacts of
the wrong kind, unknown keys and finished work that would be overwritten are refused.
"""

import dataclasses
import graphlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from runner import reuse
from runner.core import artifact, registry, schema
from runner.core.errors import ConfigError, DataError, PlanError, near_miss
from runner.core.places import with_plugins
from runner.core.specs import STAGE, Recipe
from runner.data import rules
from runner.sources import sources

UNNAMED = "(no model)"
RESERVED = ("config.yaml", "plan.json", "provenance.json", "error.txt")  # files of the run folder
_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*")


@dataclasses.dataclass(frozen=True)
class Step:
    """One stage of a plan.

    state: run | reuse | changed (finished or begun as something else); reason says why.
    values: the stage's keys as plain data.
    """

    name: str
    kind: str
    stage: Any
    values: Mapping[str, Any]
    needs: tuple[str, ...]
    folder: Path
    fingerprint: str
    identity: Mapping[str, Any]
    state: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Plan:
    """The run graph in the order in which it is executed."""

    recipe: Recipe
    run: Path
    places: tuple[Path, ...]
    steps: tuple[Step, ...]
    values: Mapping[str, Any]

    def step(self, name: str) -> Step:
        """The step of that name."""
        return next(step for step in self.steps if step.name == name)


def make(values: Mapping[str, Any], places: Sequence[Path], run: Path | None = None) -> Plan:
    """Check a composed config and plan it.

    Args:
        values: the whole config as plain data, interpolations resolved.
        places: search roots for plugins, first one wins.
        run: the run folder when it is not `output_dir`.

    Raises:
        ConfigError: a wrong key or value. PlanError: a graph that cannot be run.
    """
    recipe = _recipe(values)
    if not recipe.stages:
        raise PlanError("stages: the recipe has none. Choose a recipe: +recipe=NAME (`runner list recipes`).")
    if recipe.plugins_path is not None and not Path(recipe.plugins_path).is_dir():
        raise ConfigError("plugins_path", f"no folder {recipe.plugins_path!r}", "Give the folder that holds plugins/.")
    places = with_plugins(places, recipe.plugins_path)
    _check_names(recipe)
    _check_plugins(recipe, places)
    kinds = {name: _kind(name, recipe.stages, places) for name in recipe.stages}
    known = schema.plain(recipe)
    layers = {**(known if recipe.model.id != UNNAMED else {**known, "model": {}}), **values}
    filled = {name: fill(layers, own, kinds[name]) for name, own in recipe.stages.items()}
    _check_model(recipe.stages, filled)
    stages = {name: schema.build(kinds[name], filled[name], f"stages.{name}") for name in recipe.stages}
    needs = {name: _needs(name, filled[name], stages) for name in stages}
    for name, stage in stages.items():
        _check_artifacts(name, stage, filled[name], stages)
        stage.check(places, f"stages.{name}")
    folder = run or Path(recipe.output_dir)
    steps: dict[str, Step] = {}
    for name in _ordered(needs):
        kind = str(recipe.stages[name]["kind"])
        steps[name] = _step(recipe, name, kind, stages[name], filled[name], needs[name], folder, steps, places)
    made = Plan(recipe, folder, tuple(places), tuple(steps.values()), values)
    if recipe.on_change == "new" and any(step.state == "changed" for step in made.steps):
        return make(values, places, _next_folder(folder))
    return made


def _next_folder(folder: Path) -> Path:
    """outputs/x, outputs/x-2, outputs/x-3, ..."""
    stem, _, number = folder.name.rpartition("-")
    stem, number = (stem, number) if stem and number.isdecimal() else (folder.name, "1")
    return folder.with_name(f"{stem}-{int(number) + 1}")


def refuse_changes(plan: Plan) -> None:
    """Finished work is never overwritten unasked.

    Raises:
        PlanError: a stage was made by other keys, data or plugins, with the difference.
    """
    changed = [step for step in plan.steps if step.state == "changed"]
    if changed and plan.recipe.on_change == "refuse":
        told = "\n".join(f"    {step.name}: {step.reason}" for step in changed)
        raise PlanError(
            f"{plan.run}: holds other work, made with other settings:\n{told}\n"
            "Choose another name or output_dir, or on_change=replace (this folder again) or on_change=new (a new one)."
        )


def _check_model(stages: Mapping[str, Mapping[str, Any]], filled: Mapping[str, Mapping[str, Any]]) -> None:
    """A stage that inherits a model needs one to be named."""
    for name, own in stages.items():
        model = filled[name].get("model")
        inherits = isinstance(model, Mapping) and "model" not in own
        if inherits and model and model.get("id", schema.MISSING) == schema.MISSING:
            raise ConfigError("model.id", "missing", "Name a model: model=FOLDER or a hub id (`runner list models`).")


def _recipe(values: Mapping[str, Any]) -> Recipe:
    """The top level; the model may be missing there when every stage names its own."""
    model = values.get("model") or {}
    unnamed = isinstance(model, Mapping) and model.get("id", schema.MISSING) == schema.MISSING
    given = {**values, "model": {**model, "id": UNNAMED}} if unnamed else values
    return schema.build(Recipe, {**given, "stages": _mappings(values.get("stages"))})


def _mappings(stages: Any) -> Any:
    if isinstance(stages, Mapping):
        for name, own in stages.items():
            if not isinstance(own, Mapping):
                raise ConfigError(f"stages.{name}", f"should be a mapping with a kind, not {schema.as_yaml(own)}")
    return stages


def _check_names(recipe: Recipe) -> None:
    """A stage's name is a folder's name, and so is the run's; the objective names a stage."""
    if "\0" in recipe.output_dir:
        raise ConfigError("output_dir", f"{recipe.output_dir!r} cannot be the name of a folder")
    for name in recipe.stages:
        if not _NAME.fullmatch(name) or name in RESERVED:
            raise ConfigError("stages", f"{name!r} cannot be the name of a stage", "Use letters, digits, - and _.")
    if recipe.objective is not None:
        stage, mark, metric = recipe.objective.partition(".")
        if not mark or not metric:
            raise ConfigError("objective", f"should be STAGE.METRIC, not {recipe.objective!r}")
        if stage not in recipe.stages:
            raise ConfigError("objective", f"no stage named {stage!r}", near_miss(stage, recipe.stages))


def _check_plugins(recipe: Recipe, places: Sequence[Path]) -> None:
    """Every reward and rule that the recipe names exists and takes its parameters, whether or not a stage uses it."""
    for name, reward in recipe.reward.items():
        registry.find("rewards", name, places, f"reward.{name}")
        registry.check_params("rewards", name, reward.params, places, f"reward.{name}.params")
    rules.check(recipe.loss_scale, places)


def _kind(name: str, stages: Mapping[str, Mapping[str, Any]], places: Sequence[Path]) -> Any:
    if "kind" not in stages[name]:
        hint = near_miss(name, [other for other in stages if "kind" in stages[other]])
        fix = f"{hint} " if hint.startswith("Did") else ""
        known = ", ".join(registry.names("stages", places))
        raise ConfigError(f"stages.{name}", "a stage without a kind", f"{fix}Kinds: {known}.")
    return registry.load("stages", str(stages[name]["kind"]), places, f"stages.{name}.kind")


def fill(values: Mapping[str, Any], own: Mapping[str, Any], kind: Any) -> dict[str, Any]:
    """A stage's keys: the shared layers that its kind takes, with what the stage says itself on top.

    A kind that needs a part of a layer alone says so: `inherits`, its own key -> the part's dotted path.
    """
    shared = {field.name for field in dataclasses.fields(Recipe)} - {"stages", "name", "output_dir"}
    taken = [field.name for field in dataclasses.fields(kind) if field.name in shared]
    inherited = {key: values[key] for key in taken if key in values}
    inherited |= {key: _part(values, path) for key, path in getattr(kind, "inherits", {}).items()}
    mine = {key: value for key, value in own.items() if key != "kind"}
    for key in ("model", "teacher", "against"):
        if isinstance(mine.get(key), str):
            mine[key] = {"id": mine[key], "revision": None, "adapter": None}
    return _merged(inherited, mine)


def _part(values: Any, path: str) -> Any:
    for key in path.split("."):
        values = values.get(key) or {}
    return values


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    made = dict(below)
    for key, value in above.items():
        beneath = made.get(key)
        if isinstance(value, Mapping) and isinstance(beneath, Mapping) and key not in ("reward", "loss_scale"):
            made[key] = _merged(beneath, value)
        else:
            made[key] = value
    return made


def references(values: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Each `stage:NAME` in a stage's keys, as (key path, NAME)."""
    if isinstance(values, str) and values.startswith(STAGE):
        yield key, values.removeprefix(STAGE).split("#")[0].split("/")[0]
    elif isinstance(values, Mapping):
        for name, value in values.items():
            yield from references(value, f"{key}.{name}" if key else str(name))
    elif isinstance(values, list):
        for position, value in enumerate(values):
            yield from references(value, f"{key}.{position}")


def _needs(name: str, filled: Mapping[str, Any], stages: Mapping[str, Any]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for key, needed in references(filled):
        if needed not in stages:
            raise ConfigError(f"stages.{name}.{key}", f"no stage named {needed!r}", near_miss(needed, stages))
        found[needed] = None
    return tuple(found)


def _check_artifacts(name: str, stage: Any, filled: Mapping[str, Any], stages: Mapping[str, Any]) -> None:
    for key, needed in references(filled):
        accepted = stage.accepts.get(key.split(".")[0])
        made = stages[needed].produces()
        if accepted is not None and made not in accepted:
            takes = " or ".join(_a(one) for one in accepted)
            raise ConfigError(f"stages.{name}.{key}", f"stage {needed!r} makes {_a(made)}, and this takes {takes}")


def _a(kind: str) -> str:
    if kind.endswith("s"):
        return kind
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}" if kind != "none" else "nothing"


def _ordered(needs: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Stages in an order in which each comes after what it needs, otherwise as written."""
    sorter = graphlib.TopologicalSorter(needs)
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        raise PlanError(f"stages: a cycle: {' -> '.join(error.args[1])}. A stage cannot need itself.") from None
    order: list[str] = []
    written = list(needs)
    ready: list[str] = []
    while sorter.is_active():
        ready = sorted([*ready, *sorter.get_ready()], key=written.index)
        order.append(ready.pop(0))
        sorter.done(order[-1])
    return order


def _step(
    recipe: Recipe, name: str, kind: str, stage: Any, filled: dict[str, Any], needs: tuple[str, ...],
    run: Path, before: Mapping[str, Step], places: Sequence[Path],
) -> Step:  # fmt: skip
    identity = {
        "kind": kind,
        "keys": schema.identity(stage),
        "sources": sources(kind, stage, places),
        "needs": {need: before[need].fingerprint for need in needs},
        "seed": recipe.seed,
        "hub": recipe.hub,
    }
    identity = json.loads(json.dumps(identity, default=str))  # as it will be read back from job.yaml
    folder = run / name
    rerun = [need for need in needs if before[need].state != "reuse"]
    state, reason = reuse.state(stage, folder, identity, rerun)
    return Step(name, kind, stage, filled, needs, folder, reuse.fingerprint(identity), identity, state, reason)


def work_order(plan: Plan, step: Step) -> str:
    """The text of `job.yaml`: all that the worker needs, each `stage:NAME` replaced by that stage's folder."""
    order = {
        "name": step.name,
        "kind": step.kind,
        "run": str(plan.run.resolve()),
        "seed": plan.recipe.seed,
        "hub": plan.recipe.hub,
        "roots": [str(place) for place in plan.places],
        "fingerprint": step.fingerprint,
        "stage": _located(schema.plain(step.values), plan),
        "identity": dict(step.identity),
    }
    return yaml.safe_dump(order, sort_keys=False, allow_unicode=True, width=1000)


def mix_of(plan: Plan, step: Step) -> Any:
    """A stage's mix with what other stages have made, for who looks at it before that stage runs.

    Raises:
        DataError: some of it has not been made yet.
    """
    mix = step.stage.mix
    values = schema.plain(mix)
    for _, name in references(values):
        if artifact.read(plan.step(name).folder) is None:
            raise DataError(f"{STAGE}{name}: is not complete, so its answers cannot be looked at. Run it first.")
    return schema.build(type(mix), _located(values, plan))


def _located(value: Any, plan: Plan) -> Any:
    if isinstance(value, str) and value.startswith(STAGE):
        name, mark, rest = value.removeprefix(STAGE).partition("#")
        return str(plan.step(name).folder.resolve()) + mark + rest
    if isinstance(value, dict):
        return {key: _located(item, plan) for key, item in value.items()}
    return [_located(item, plan) for item in value] if isinstance(value, list) else value
