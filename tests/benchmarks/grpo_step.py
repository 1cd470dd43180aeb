"""A step of GRPO beside TRL on one GPU, vLLM on the same GPU in both: all weights learn, 4 prompts x 16 x 512 tokens.

usage: python tests/benchmarks/grpo_step.py MODEL [--updates 8] [--trl-python PYTHON] [--sleep 0] [--more KEY=VALUE …]
           [--out FILE.json]

MODEL is a folder with a chat model; random weights do, and answer to the limit. Our side is the whole command, its
layers compiled, as `compile: auto` has it for a longer training than this. TRL 1.16 gets the same prompts, reward,
sampling, memory share and optimizer, in device batches of 8. The first two updates of each side start engines and
compile, and are not counted. Prints a table of the phases in seconds and our memory by phase, writes JSON.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
PROMPTS, GENERATIONS, TOKENS, WARM, SHARE = 4, 16, 512, 2, 0.2
REWARD = '''
def varied(completions: list[str]) -> list[float | None]:
    """Differs from answer to answer."""
    return [float(sum(map(ord, text)) % 97) for text in completions]
'''
RECIPE = """\
# The benchmark's training.
# @package _global_
name: ours
model: {id: "%s", dtype: bfloat16, compile: true}
mix: {datasets: [rows.jsonl]}
train_type: {kind: full}
optim: {lr: 1e-6, schedule: constant}
sampling: {max_new_tokens: %d, temperature: 1.0}
backend: {name: vllm, engine: {gpu_memory_utilization: %s}}
reward: {varied: {}}
save: {every: 1000}
log: {every: 1}
max_updates: %d
stages:
  train: {kind: grpo, prompts_per_update: %d, num_generations: %d, sleep_level: %d, correction: token_truncate}
"""
PHASES = ("generate", "sync", "score", "rest", "seconds")
IN_USE = ("sampling", "learning")  # for which our side tells how much of the GPU all programs on it have taken


def write(folder: Path, model: str, updates: int, sleep: int) -> None:
    """The rows, the reward and the recipe."""
    rows = [{"messages": [{"role": "user", "content": f"Tell me a story about the number {n}."}]} for n in range(256)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, text in {
        "plugins/rewards/varied.py": REWARD,
        "recipes/ours.yaml": RECIPE % (model, TOKENS, SHARE, updates, PROMPTS, GENERATIONS, sleep),
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def ours(folder: Path, more: list[str]) -> list[dict[str, float]]:
    """Seconds of each phase of each update of the command, with more keys."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    subprocess.run([sys.executable, "-m", "runner", "+recipe=ours", *more], cwd=folder, env=environment, check=True)
    lines = [json.loads(line) for line in (folder / "outputs/ours/train/metrics.jsonl").read_text().splitlines()]
    made = []
    for line in lines:
        known = {name: line[f"seconds_{name}"] for name in ("generate", "sync", "score")}
        rest = line["seconds"] - sum(known.values())
        told = {"seconds": "seconds", "memory_gib": "memory_gib", "tokens": "completions/mean_length"}
        taken = {f"{phase}_gib": line.get(f"gpu_gib_{phase}", 0.0) for phase in IN_USE}  # no update before the first
        made.append({**known, "rest": rest, **{name: line[key] for name, key in told.items()}, **taken})
    return made


def trl(folder: Path, python: str, model: str, updates: int) -> list[dict[str, float]]:
    """The same of TRL, in its own Python."""
    out = folder / "trl.json"
    words = [python, __file__, model, "--side", str(folder), "--out", str(out), "--updates", str(updates)]
    subprocess.run(words, check=True)
    return list(json.loads(out.read_text()))


def train_with_trl(folder: Path, model: str, updates: int, out: Path) -> None:
    """TRL's side: needs nothing of ours."""
    import torch
    from datasets import load_dataset
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    spent: dict[str, float] = dict.fromkeys(PHASES, 0.0)
    made: list[dict[str, float]] = []

    def varied(completions: Any, **_: Any) -> list[float]:
        return [float(sum(map(ord, one[0]["content"])) % 97) for one in completions]

    class Clock(TrainerCallback):  # type: ignore[misc]
        begin = 0.0

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            torch.cuda.synchronize()
            self.begin = time.monotonic()
            spent.update(dict.fromkeys(spent, 0.0))

        def on_step_end(self, *_: Any, **__: Any) -> None:
            torch.cuda.synchronize()
            seconds = time.monotonic() - self.begin
            known = {name: spent[name] for name in ("generate", "sync", "score")}
            rest = seconds - sum(known.values())
            memory = torch.cuda.max_memory_allocated() / 2**30
            made.append({**known, "rest": rest, "seconds": seconds, "memory_gib": memory})

    args = GRPOConfig(
        output_dir=str(folder / "trl"), per_device_train_batch_size=8,
        gradient_accumulation_steps=PROMPTS * GENERATIONS // 8, num_generations=GENERATIONS,
        max_completion_length=TOKENS, use_vllm=True, vllm_mode="colocate", vllm_gpu_memory_utilization=SHARE,
        vllm_max_model_length=TOKENS + 256, learning_rate=1e-6, lr_scheduler_type="constant", max_steps=updates,
        bf16=True, temperature=1.0, vllm_importance_sampling_mode="token_truncate", logging_steps=1, save_strategy="no",
        report_to="none", optim="adamw_torch_fused",
    )  # fmt: skip
    data = load_dataset("json", data_files=str(folder / "rows.jsonl"), split="train").rename_column(
        "messages", "prompt"
    )
    trainer = GRPOTrainer(model=model, reward_funcs=varied, args=args, train_dataset=data, callbacks=[Clock()])
    _timed(trainer.vllm_generation, "generate", "generate", spent)
    _timed(trainer.vllm_generation, "sync_weights", "sync", spent)
    _timed(trainer, "_calculate_rewards", "score", spent)
    trainer.train()
    out.write_text(json.dumps(made))


def _timed(owner: Any, name: str, phase: str, spent: dict[str, float]) -> None:
    inner = getattr(owner, name)

    def timed(*args: Any, **keys: Any) -> Any:
        begin = time.monotonic()
        try:
            return inner(*args, **keys)
        finally:
            spent[phase] += time.monotonic() - begin

    setattr(owner, name, timed)


def main() -> None:
    """Measure both sides."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--updates", type=int, default=8)
    parser.add_argument("--trl-python", default=sys.executable)
    parser.add_argument("--sleep", type=int, default=0)
    parser.add_argument("--only", choices=["ours", "trl"])
    parser.add_argument("--more", nargs="*", default=[], help="keys for our side")
    parser.add_argument("--side", type=Path)
    parser.add_argument("--out", type=Path, default=Path("grpo_step.json"))
    given = parser.parse_args()
    if given.model is None or importlib.util.find_spec("vllm") is None:
        print("grpo_step needs a GPU with vLLM, and the folder of a model: nothing was measured")
        return
    if given.side:
        train_with_trl(given.side, given.model, given.updates, given.out)
        return
    with tempfile.TemporaryDirectory() as place:
        folder, model = Path(place), str(Path(given.model).resolve())
        write(folder, model, given.updates, given.sleep)
        sides: dict[str, list[dict[str, float]]] = {}
        print(f"{'':6}" + "".join(f"{name:>10}" for name in (*PHASES, "GiB")))
        for name in ("ours", "trl") if given.only is None else (given.only,):
            made = ours(folder, given.more) if name == "ours" else trl(folder, given.trl_python, model, given.updates)
            middle = {key: statistics.median(one[key] for one in made[WARM:]) for key in (*PHASES, "memory_gib")}
            print(f"{name:6}" + "".join(f"{value:10.3f}" for value in middle.values()), flush=True)
            if name == "ours":
                taken = {phase: statistics.median(one[f"{phase}_gib"] for one in made[WARM:]) for phase in IN_USE}
                told = ", ".join(f"{value:.0f} while {phase}" for phase, value in taken.items())
                print(f"  GiB of the GPU in use: {told}", flush=True)
            sides[name] = made
            given.out.write_text(json.dumps(sides, indent=1) + "\n")


if __name__ == "__main__":
    main()
