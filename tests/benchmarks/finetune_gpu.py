"""Fine-tuning on one GPU: the whole command on random weights of published Qwen3 shapes, TRL beside where asked.

usage: python tests/benchmarks/finetune_gpu.py TOKENIZER [--works NAME …] [--trl] [--out FILE.json]

TOKENIZER is a folder with a Qwen3 tokenizer and its chat template. Rows have the length mix of a self-cognition run:
one short answer to three long ones, up to 2,048 tokens. A speed is the median of the logged updates after the third,
less the last, which is profiled; finding the pace and compiling come before and are told as seconds to the first
update. Works of one model with the same rows an update are cut otherwise: their losses are plotted beside the JSON.
TRL 1.16 gets packs of the same length, FlashAttention 4 and Liger kernels, with activation checkpointing (its default)
and without; its first three steps are not counted, and the faster of the two is what counts.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
SHAPES = {  # hidden, intermediate, layers, heads, key and value heads, tied
    "0.6b": (1024, 3072, 28, 16, 8, True), "1.7b": (2048, 6144, 28, 16, 8, True), "8b": (4096, 12288, 36, 32, 8, False),
}  # fmt: skip
LORA = ["train_type.kind=lora", "train_type.lora.rank=8", "train_type.lora.alpha=32", "optim.lr=1e-4"]
FULL = ["train_type.kind=full", "optim.lr=1e-5"]
WORKS: dict[str, tuple[str, list[str]]] = {
    "8b-lora": ("8b", [*LORA, "batch.rows=16"]),
    "8b-lora-22gib": ("8b", [*LORA, "batch.rows=16", "batch.memory_gib=22"]),
    "8b-lora-packs": ("8b", [*LORA, "batch.packs=8"]),
    "1.7b-full": ("1.7b", [*FULL, "batch.packs=4", "max_length=8192"]),
    "0.6b-lora": ("0.6b", [*LORA, "batch.packs=8"]),
    "0.6b-lora-rows": ("0.6b", [*LORA, "batch.rows=16"]),
    "0.6b-lora-one-row": ("0.6b", [*LORA, "batch.rows=16", "batch.tokens_per_device=1"]),
}
RECIPE = """\
# The benchmark's training.
# @package _global_
name: ours
mix: {datasets: [rows.jsonl]}
max_length: 2048
optim: {warmup: 0.05}
data: {workers: 2}
save: {every: 1000}
log: {every: 1}
stages: {train: {kind: sft}}
"""
SKIPPED = 3  # updates, or steps, that warm up
WORDS = ["the", "of", "and", "to", "in", "is", "that", "for", "it", "as", "was", "with", "be", "by", "on", "not", "he"]


def write_model(shape: str, tokenizer: Path, folder: Path) -> None:
    """Random weights in bfloat16."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    hidden, inner, layers, heads, shared, tied = SHAPES[shape]
    config = Qwen3Config(
        vocab_size=151936, hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=shared, head_dim=128, max_position_embeddings=40960,
        tie_word_embeddings=tied, bos_token_id=151643, eos_token_id=151645,
    )  # fmt: skip
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = Qwen3ForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)
    for file in tokenizer.iterdir():
        shutil.copy(file, folder)


def write_rows(file: Path, count: int) -> None:
    """Conversations of the length mix."""
    rng = random.Random(0)

    def text(words: int) -> str:
        return " ".join(rng.choices(WORDS, k=words))

    with open(file, "w", encoding="utf-8") as stream:
        for _ in range(count):
            if rng.random() < 600 / 2600:
                asked, said = text(rng.randint(3, 12)), "<think>\n\n</think>\n\n" + text(rng.randint(15, 60))
            else:
                words = min(1450, max(40, int(rng.lognormvariate(6.2, 0.7))))
                asked = text(rng.randint(10, 120))
                said = f"<think>\n{text(words // 2)}\n</think>\n\n{text(words - words // 2)}"
            turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
            stream.write(json.dumps({"messages": turns}) + "\n")


def ours(folder: Path, model: Path, name: str, keys: list[str], updates: int) -> dict[str, Any]:
    """Figures of one run of the command."""
    run = folder / name
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-m", "runner", "+recipe=ours", f"model={model}", f"max_updates={updates}", *keys]
    command.append(f"log.profile={updates}")
    start = time.monotonic()
    done = subprocess.run(
        [*command, f"output_dir={run}"], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    log = run / "train" / "log.txt"
    told = log.read_text() if log.is_file() else done.stdout + done.stderr
    if done.returncode:
        return {"failed": (done.stderr or told)[-1500:]}
    lines = [json.loads(line) for line in (run / "train" / "metrics.jsonl").read_text().splitlines()]
    lines = [line for line in lines if "loss" in line]
    counted = lines[SKIPPED:-1]
    return {
        "tokens_per_s": round(statistics.median(line["tokens_per_s"] for line in counted)),
        "mfu": round(statistics.median(line["mfu"] or 0 for line in counted), 3),
        "gib": round(max(line["memory_gib"] for line in counted), 1),
        "waits_ms": round(1000 * statistics.median(line["data_seconds"] for line in counted), 1),
        "before_s": round(time.monotonic() - start - sum(line["seconds"] for line in lines)),
        "losses": [round(line["loss"], 4) for line in lines],
        "profile_ms": json.loads((run / "train" / "profile.json").read_text())["milliseconds"],
        "pace": next((line for line in told.splitlines() if line.startswith("pace: ")), ""),
    }


def trl(folder: Path, tokenizer: Path, work: str, updates: int) -> dict[str, Any]:
    """Figures of TRL's faster run."""
    made: dict[str, Any] = {}
    for kept in ("full", "off"):
        out = folder / "trl.json"
        command = [sys.executable, __file__, str(tokenizer), "--side", str(folder), work, kept]
        command += ["--updates", str(updates), "--out", str(out)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        made[kept] = json.loads(out.read_text()) if run.returncode == 0 else {"failed": run.stderr[-500:]}
    return {**max(made.values(), key=lambda one: one.get("tokens_per_s", 0)), "by checkpointing": made}


def train_with_trl(side: tuple[Path, str, str], model: Path, keys: list[str], updates: int, out: Path) -> None:
    """One run of TRL's trainer; runs in a process of its own.

    Args:
        side: the folder, the work's name, and what is recomputed: full or off.
    """
    import torch
    from datasets import load_dataset
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    folder, name, checkpointing = side
    full, long = "train_type.kind=full" in keys, "max_length=8192" in keys
    clock: list[tuple[float, int]] = []

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            torch.cuda.synchronize()
            clock.append((time.monotonic(), int(state.num_input_tokens_seen)))

    config = SFTConfig(
        output_dir=str(folder / f"trl-{name}"), max_steps=updates, per_device_train_batch_size=1 if long else 8,
        gradient_accumulation_steps=4 if long else 1, max_length=8192 if long else 2048, packing=True, bf16=True,
        padding_free=True, use_liger_kernel=True, gradient_checkpointing=checkpointing == "full", report_to=[],
        save_strategy="no", learning_rate=1e-5 if full else 1e-4, include_num_input_tokens_seen="all",
        logging_steps=1000, model_init_kwargs={"dtype": "bfloat16", "attn_implementation": "flash_attention_4"},
    )  # fmt: skip
    lora = LoraConfig(r=8, lora_alpha=32, lora_dropout=0.05, target_modules="all-linear", task_type="CAUSAL_LM")
    rows = load_dataset("json", data_files=str(folder / "rows.jsonl"), split="train")
    trainer = SFTTrainer(
        str(model), args=config, train_dataset=rows, peft_config=None if full else lora, callbacks=[Clock()]
    )
    trainer.train()
    (first, seen), (last, total) = clock[SKIPPED - 1], clock[-1]
    rate = round((total - seen) / (last - first))
    out.write_text(json.dumps({"tokens_per_s": rate, "gib": round(torch.cuda.max_memory_allocated() / 2**30, 1)}))


def curves(works: dict[str, Any], file: Path) -> None:
    """A plot of the losses of works that learn from the same rows, cut otherwise."""
    import matplotlib.pyplot as plt

    alike: dict[str, dict[str, list[float]]] = {}
    for name, made in works.items():
        if "losses" in made and "batch.rows=16" in WORKS[name][1]:
            alike.setdefault(WORKS[name][0], {})[name] = made["losses"]
    figure, rows = plt.subplots(max(len(alike), 1), 2, figsize=(10, 4), layout="constrained", squeeze=False)
    for (left, right), same in zip(rows, alike.values(), strict=False):
        first = next(iter(same))
        for name, losses in same.items():
            left.plot(range(1, len(losses) + 1), losses, label=name)
            apart = [one - other for one, other in zip(losses, same[first], strict=False)]
            right.plot(range(1, len(apart) + 1), apart, label=f"{name} less {first}")
        for axes, title in ((left, "loss"), (right, "difference of the losses")):
            axes.set(xlabel="update", title=title)
            axes.legend()
    figure.savefig(file)


def main() -> None:
    """Work by work."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizer", type=Path, nargs="?", help="a folder with a tokenizer, Qwen3's for example")
    parser.add_argument("--works", nargs="+", choices=list(WORKS), default=list(WORKS))
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--more", nargs="*", default=[], help="keys for every run of ours")
    parser.add_argument("--trl", nargs="*", default=[], choices=list(WORKS), help="works to give TRL too")
    parser.add_argument("--folder", type=Path, help="for models and runs; else one that is removed at the end")
    parser.add_argument("--side", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path("finetune_gpu.json"))
    given = parser.parse_args()
    if given.side is not None:
        folder, name, kept = Path(given.side[0]), *given.side[1:]
        train_with_trl((folder, name, kept), folder / WORKS[name][0], WORKS[name][1], given.updates, given.out)
        return
    import torch

    if not torch.cuda.is_available():
        print("finetune_gpu: no GPU here, nothing to measure")
        return
    if given.tokenizer is None:
        print("finetune_gpu: no tokenizer given, nothing measured")
        return
    result: dict[str, Any] = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "works": {}}
    with tempfile.TemporaryDirectory() as name:
        folder = (given.folder or Path(name)).resolve()
        write_rows(folder / "rows.jsonl", 2600)
        (folder / "recipes").mkdir(exist_ok=True)
        (folder / "recipes" / "ours.yaml").write_text(RECIPE)
        for work in given.works:
            shape, keys = WORKS[work]
            if not (folder / shape).is_dir():
                subprocess.run([sys.executable, __file__, "--make", shape, str(given.tokenizer), str(folder / shape)])
            made = ours(folder, folder / shape, work, [*keys, *given.more], given.updates)
            if work in given.trl:
                made["trl"] = trl(folder, given.tokenizer, work, given.updates)
            result["works"][work] = made
            shown = {key: value for key, value in made.items() if key != "losses"}
            print(f"{work:16}{json.dumps(shown)}", flush=True)
            given.out.write_text(json.dumps(result, indent=1) + "\n")
        curves(result["works"], given.out.with_suffix(".png"))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--make"]:
        write_model(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
    else:
        main()
