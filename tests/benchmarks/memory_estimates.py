"""The memory that `plan` expects of a training beside the most that it took, for each kind of training on one GPU.

usage: python tests/benchmarks/memory_estimates.py TOKENIZER [--shape 1.7b] [--works NAME …] [--at-once 1]
           [--out FILE.json]

Random weights of a published Qwen3 shape, two packs of 8,192 tokens an update, cut in two; four updates of the whole
command.
Each run counts its own memory, so several may run beside each other. TOKENIZER as for finetune_gpu.py.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from finetune_gpu import LORA, RECIPE, ROOT, SHAPES, write_rows  # type: ignore[import-not-found]  # beside this file

TOKENS, ROOM, UPDATES = 8192, 512, 4  # room: without it rows that fill two packs may not fit into two micro-batches
FULL, FROZEN = ["train_type.kind=full"], ["train_type.kind=freeze", "train_type.patterns=['layers[.]2[0-9]']"]
COMPILED = ["model.compile=true"]
WORKS: dict[str, list[str]] = {
    "lora": [*LORA, *COMPILED, "batch.checkpointing=off"],
    "lora-selective": [*LORA, *COMPILED, "batch.checkpointing=selective"],
    "lora-full": [*LORA, *COMPILED, "batch.checkpointing=full"],
    "full": [*FULL, *COMPILED, "batch.checkpointing=off"],
    "full-selective": [*FULL, *COMPILED, "batch.checkpointing=selective"],
    "full-full": [*FULL, *COMPILED, "batch.checkpointing=full"],
    "dora-selective": [*LORA, "train_type.lora.dora=true", *COMPILED, "batch.checkpointing=selective"],
    "freeze-selective": [*FROZEN, *COMPILED, "batch.checkpointing=selective"],
    "qlora-full": ["train_type.kind=qlora", "batch.checkpointing=full"],
    **{f"{preset}-full": [*FULL, f"parallelism={preset}", "batch.checkpointing=full"]
       for preset in ("fsdp2", "zero1", "zero2", "zero3", "zero3_offload")},
    "zero2-lora": [*LORA, "parallelism=zero2", "batch.checkpointing=full"],
}  # fmt: skip


def command(folder: Path, shape: str, keys: list[str]) -> list[str]:
    """The words of a run, or of its plan."""
    batch = [
        f"batch.tokens_per_device={TOKENS + ROOM}",
        "batch.packs=2",
        f"max_length={TOKENS}",
        f"max_updates={UPDATES}",
    ]
    return ["+recipe=ours", f"model={folder / shape}", *batch, *keys]


def expected(folder: Path, words: list[str]) -> float:
    """GiB by the estimate, for what `batch.checkpointing` says."""
    from omegaconf import OmegaConf

    from runner.core import schema
    from runner.core.specs import Parallelism, TrainType
    from runner.models.memory import estimate
    from runner.models.shape import shape_of

    shown = subprocess.run([sys.executable, "-m", "runner", *words, "--cfg", "job"], **_run(folder), check=True)
    recipe: Any = OmegaConf.to_container(OmegaConf.create(shown.stdout), resolve=True)
    shape = shape_of(recipe["model"]["id"])
    assert shape is not None
    kind = schema.build(TrainType, recipe["train_type"])
    split = schema.build(Parallelism, {key: recipe["parallelism"][key] for key in ("preset", "gpus")})
    found = estimate(shape, kind, split)
    return max(found.at(TOKENS, recipe["batch"]["checkpointing"]), found.starting)


def measured(folder: Path, name: str, words: list[str]) -> float:
    """The most GiB that the run's tensors took."""
    run = folder / name
    done = subprocess.run([sys.executable, "-m", "runner", *words, f"output_dir={run}"], **_run(folder), check=False)
    if done.returncode:
        raise RuntimeError(f"{name}: {(done.stderr or done.stdout)[-1000:]}")
    lines = [json.loads(line) for line in (run / "train" / "metrics.jsonl").read_text().splitlines()]
    shutil.rmtree(run)
    return max(float(line["memory_gib"]) for line in lines if "memory_gib" in line)


def _run(folder: Path) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    return {"cwd": folder, "env": environment, "capture_output": True, "text": True}


def main() -> None:
    """Work by work, as each is done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizer", type=Path, nargs="?")
    parser.add_argument("--shape", choices=tuple(SHAPES), default="1.7b")
    parser.add_argument("--works", nargs="+", choices=list(WORKS), default=list(WORKS))
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("memory_estimates.json"))
    given = parser.parse_args()
    import torch

    if not torch.cuda.is_available() or given.tokenizer is None:
        print("memory_estimates needs a GPU, and the folder of a tokenizer: nothing was measured")
        return
    result: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(given.at_once) as pool:
        folder = Path(name)
        write_rows(folder / "rows.jsonl", 600)
        (folder / "recipes").mkdir()
        (folder / "recipes" / "ours.yaml").write_text(RECIPE)
        make = [sys.executable, str(Path(__file__).with_name("finetune_gpu.py")), "--make", given.shape]
        subprocess.run([*make, str(given.tokenizer), str(folder / given.shape)], check=True)

        def one(work: str) -> None:
            words = command(folder, given.shape, WORKS[work])
            try:
                plan, took = expected(folder, words), measured(folder, work, words)
            except (RuntimeError, subprocess.CalledProcessError) as error:
                print(f"{work:18} {error}", flush=True)
                return
            result[work] = {"expected_gib": round(plan, 2), "measured_gib": round(took, 2)}
            print(f"{work:18} expected {plan:6.2f} GiB, took {took:6.2f}: {plan / took - 1:+.0%}", flush=True)
            given.out.write_text(json.dumps(result, indent=1) + "\n")

        list(pool.map(one, given.works))


if __name__ == "__main__":
    main()
