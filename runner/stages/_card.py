"""A model card from what a run wrote down about itself: base, data, settings, measurements, versions.

Nothing of the machine's own places gets into it: of a path only the last name, and no token (provenance has none).
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from runner.core import artifact
from runner.core.job import JOB_FILE
from runner.models.hub import HUB_ID
from runner.models.locate import ADAPTER, Located
from runner.stages._sending import marked

PROVENANCE, PLAN = "provenance.json", "plan.json"
NOT_TRAINING = ("infer", "evaluate", "compare", "chat", "merge", "push")
PLACE = re.compile(r"(?<![\w./])(?:file://|~|\.{1,2})?/(?!/)(?:[^\s,'\"\[\]{}/]+/)*(?=[^\s,'\"\[\]{}/])")
SHOWN = (
    "mix.datasets", "max_length", "train_type.kind", "train_type.lora.rank", "train_type.lora.alpha",
    "train_type.lora.targets", "batch.rows", "batch.packs", "batch.tokens", "epochs", "max_updates", "optim.name",
    "optim.lr", "optim.schedule", "optim.warmup", "optim.weight_decay", "loss_scale",
)  # fmt: skip
RESULTS = ("loss", "eval_loss", "updates", "rows", "trained_tokens")
SPEED = ("seconds", "tokens_per_s")
TOLD = ("torch", "transformers", "peft", "trl", "vllm", "deepspeed")
USE = {
    "peft": """\
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

model, tokenizer = AutoPeftModelForCausalLM.from_pretrained("{name}"), AutoTokenizer.from_pretrained("{name}")
""",
    "transformers": """\
from transformers import AutoModelForCausalLM, AutoTokenizer

model, tokenizer = AutoModelForCausalLM.from_pretrained("{name}"), AutoTokenizer.from_pretrained("{name}")
""",
}


def card(name: str, hub: str, located: Located, run: Path, license: str | None) -> str:
    """The text of README.md.

    Args:
        name: of the repository. run: the folder of the run that pushes; the model's own run, where it lies in one, is
            told about instead.
    """
    home = run_of(located.adapter or located.base) or run
    library = "peft" if located.adapter else "transformers"
    stages = list(_stages(home))
    text = f"---\n{_head(located, library, license, stages)}---\n\n# {name.split('/')[1]}\n\n{_what(located, stages)}\n"
    snippet = USE[library].format(name=name)
    if hub == "modelscope":
        snippet = snippet.replace("from peft", "from modelscope").replace("from transformers", "from modelscope")
    text += f"\n```python\n{snippet}```\n" + "".join(_sections(stages)) + _making(home)
    return marked(text)


def run_of(folder: Path) -> Path | None:
    """The run that a model's folder lies in: a stage's folder, or a checkpoint or model in one."""
    return next((place for place in list(folder.parents)[:2] if (place / PLAN).is_file()), None)


def _stages(run: Path) -> Iterator[tuple[Mapping[str, Any], artifact.Artifact, Mapping[str, Any]]]:
    """Each complete stage of a run: its line of the plan, what it made, its keys."""
    plan = run / PLAN
    for stage in json.loads(plan.read_text(encoding="utf-8"))["stages"] if plan.is_file() else ():
        made = artifact.read(run / stage["name"])
        order = run / stage["name"] / JOB_FILE
        if made is not None and order.is_file():
            keys = yaml.safe_load(order.read_text(encoding="utf-8")).get("identity", {}).get("keys", {})
            yield stage, made, keys


def _head(located: Located, library: str, license: str | None, stages: list[Any]) -> str:
    bases = [str(keys.get("model", {}).get("id", "")) for stage, _, keys in stages if _trains(stage)]
    base = next((name for name in (located.name if located.adapter else "", *bases) if _public(name)), None)
    data = [
        str(entry.get("dataset", "") if isinstance(entry, dict) else entry).split("#")[0].split(":")[0]
        for stage, _, keys in stages
        if _trains(stage)
        for entry in keys.get("mix", {}).get("datasets", [])
    ]
    kinds = [str(stage["kind"]) for stage, _, _ in stages if _trains(stage)]
    head = {
        "base_model": base,
        "library_name": library,
        "pipeline_tag": "text-generation",
        "license": license,
        "datasets": sorted({name for name in data if _public(name)}),
        "tags": sorted({*kinds, *(["lora"] if located.adapter else [])}),
    }
    kept = {key: value for key, value in head.items() if value}
    return yaml.safe_dump(kept, sort_keys=False, allow_unicode=True)


def _public(name: str) -> bool:
    return HUB_ID.fullmatch(name) is not None and not Path(name).exists()


def _trains(stage: Mapping[str, Any]) -> bool:
    return stage["kind"] not in NOT_TRAINING


def _what(located: Located, stages: list[Any]) -> str:
    trained: Mapping[str, Any] = next((keys for stage, _, keys in reversed(stages) if _trains(stage)), {})
    base = located.name if located.adapter else str(trained.get("model", {}).get("id") or "")
    if located.adapter:
        told = json.loads((located.adapter / ADAPTER).read_text(encoding="utf-8"))
        return f"An adapter ({told.get('peft_type', 'LORA')}, rank {told.get('r', '?')}) for `{shortened(base)}`."
    return f"A model trained from `{shortened(base)}`." if base else "A language model."


def _sections(stages: list[Any]) -> Iterator[str]:
    for stage, made, keys in stages:
        if _trains(stage):
            values = [(name, _at(keys, name)) for name in SHOWN]
            values += [(name, made.metrics.get(name)) for name in RESULTS]
            yield f"\n## Training: {stage['name']} ({stage['kind']})\n\n| | |\n| --- | --- |\n"
            yield from (f"| {name} | {_cell(value)} |\n" for name, value in values if value not in (None, [], ""))
    measured = [
        f"| {stage['name']} | {name} | {value:g} |\n"
        for stage, made, _ in stages
        if stage["kind"] in ("evaluate", "compare")
        for name, value in made.metrics.items()
        if isinstance(value, int | float) and name not in SPEED
    ]
    if measured:
        yield "\n## Measured\n\n| stage | | |\n| --- | --- | --- |\n" + "".join(measured)


def _making(run: Path) -> str:
    file = run / PROVENANCE
    if not file.is_file():
        return "\nNo record of how it was made lies beside it.\n"
    told = json.loads(file.read_text(encoding="utf-8"))
    words = " ".join(shortened(str(word)) for word in told["command"][1:])
    versions = ", ".join(f"{name} {told['packages'][name]}" for name in TOLD if name in told["packages"])
    commit = (told.get("git") or {}).get("commit", "")
    gpus = ", ".join(told.get("hardware", {}).get("gpus", [])) or "no GPU"
    lines = [f"`runner {words}`", f"seed {told['seed']}; Python {told['python']}, {versions}; {gpus}"]
    if commit:
        lines.append(f"commit {commit}{', with changes' if told['git']['dirty'] else ''}")
    return "\n## How it was made\n\n" + "\n\n".join(lines) + "\n"


def shortened(text: str) -> str:
    """A text in which of each path of a machine only the last name is left."""
    return PLACE.sub("", text)


def _at(keys: Any, path: str) -> Any:
    for name in path.split("."):
        keys = keys.get(name) if isinstance(keys, Mapping) else None
    return keys


def _cell(value: Any) -> str:
    told = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return shortened(told).replace("|", "\\|")
