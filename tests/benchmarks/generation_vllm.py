"""The batch stage on vLLM against vLLM's own `LLM.generate`: the same prompts and settings, on one GPU, in one run.

    python tests/benchmarks/generation_vllm.py MODEL_FOLDER [--prompts 256 4096] [--new 512] [--rounds 2] [--out FILE]
    python tests/benchmarks/generation_vllm.py --shape 1.7b --tokenizer FOLDER     random weights of Qwen3-1.7B's shape

One engine answers for both, by turns, with nothing left in its cache of prefixes: what differs is what stands around
it. Tokens/s hold everything from questions to answers: prompts made and tokenized, and for the stage its rows written
to the disk; "bare" ones are those of vLLM once its prompts are ids.
"""

import argparse
import importlib.util
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

ENGINE = {"max_model_len": 2048, "gpu_memory_utilization": 0.9}
WIDTHS = {"0.6b": (1024, 3072, 28, 16, True), "1.7b": (2048, 6144, 28, 16, True), "8b": (4096, 12288, 36, 32, False)}


def questions(count: int) -> list[str]:
    """Questions of different lengths."""
    return [f"Number {n}: tell me about " + "the sea and " * (n % 40 + 1) + "the sky." for n in range(count)]


def shaped(shape: str, tokenizer: Path, folder: Path) -> Path:
    """A model folder without weights: vLLM fills it with random ones (load_format: dummy)."""
    from transformers import Qwen3Config

    hidden, inner, layers, heads, tied = WIDTHS[shape]
    Qwen3Config(
        architectures=["Qwen3ForCausalLM"], hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=8, head_dim=128, tie_word_embeddings=tied, vocab_size=151936,
        max_position_embeddings=40960, rope_theta=1000000, bos_token_id=151643, eos_token_id=151645, dtype="bfloat16",
    ).save_pretrained(folder)  # fmt: skip
    for file in tokenizer.iterdir():
        if file.is_file() and file.name != "config.json":
            shutil.copy(file, folder)
    return folder


def alone(engine: Any, llm: Any, count: int, new: int) -> dict[str, float]:
    """vLLM's own offline class on the ids that the runner would send."""
    from vllm import SamplingParams

    from runner.backends._completion import prompt
    from runner.core.specs import Template
    from runner.core.types import Message

    ready = time.monotonic()
    made_here = [prompt(engine.tokenizer, [Message("user", text)], Template()) for text in questions(count)]
    prompts = [{"prompt_token_ids": list(one.ids)} for one in made_here]
    asked = time.monotonic()
    made = llm.generate(prompts, SamplingParams(max_tokens=new, temperature=1.0), use_tqdm=False)
    answered = time.monotonic()
    tokens = sum(len(output.outputs[0].token_ids) for output in made)
    return {**_figures(answered - ready, tokens, len(made)), "bare_tokens_per_s": tokens / (answered - asked)}


def stage(engine: Any, llm: Any, count: int, new: int) -> dict[str, float]:
    """The infer stage as a recipe runs it, files included; its engine stays for the next turn."""
    from runner import backends
    from runner.core import schema
    from runner.core.job import Job
    from runner.stages._completions import read
    from runner.stages.infer import Infer

    times = {"answered": 0.0}

    def answered() -> None:
        times["answered"] = time.monotonic()  # the last row is on the disk

    engine.close = answered
    backends.start = lambda *_: engine  # type: ignore[assignment]
    keys = {
        "model": {"id": str(engine.folder)}, "template": {}, "parallelism": {}, "questions": questions(count),
        "sampling": {"max_new_tokens": new, "temperature": 1.0, "top_p": 1.0, "top_k": -1},
        "backend": {"name": "vllm"}, "show": 0,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        ready = time.monotonic()
        made = schema.build(Infer, keys).run(Job("infer", Path(folder), Path(folder)))
        rows = read(Path(made.path))
    return _figures(times["answered"] - ready, sum(row["completion_tokens"] for row in rows), len(rows))


SIDES = {"alone": alone, "stage": stage}


def started(model: str, keys: dict[str, Any]) -> tuple[Any, Any]:
    """Our backend and vLLM's class, on one engine."""
    from vllm import LLM

    from runner import backends
    from runner.backends import _vllm_start
    from runner.core.specs import Backend, Model

    llm = LLM(model, **keys)
    _vllm_start.begin = lambda *_, **__: llm.llm_engine  # type: ignore[assignment]
    engine = backends.start(Backend(name="vllm"), Model(id=model), "huggingface")
    engine.folder = model  # type: ignore[attr-defined]
    return engine, llm


def _figures(seconds: float, tokens: int, rows: int) -> dict[str, float]:
    return {"rows": rows, "answers_s": seconds, "tokens": tokens, "tokens_per_s": tokens / seconds}


def measure(model: str, keys: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """All rounds of all numbers of prompts, told as they come."""
    begun = time.monotonic()
    engine, llm = started(model, keys)
    result: dict[str, Any] = {"start_s": time.monotonic() - begun, "turns": []}
    close = llm.llm_engine.engine_core.shutdown
    print(f"the engine stands after {result['start_s']:.0f} s", flush=True)
    for side in SIDES.values():
        side(engine, llm, 16, 16)  # what compiles with the first answers
    for count in options.prompts:
        for number in range(options.rounds):
            for name in list(SIDES)[:: 1 if len(result["turns"]) % 4 == 0 else -1]:
                llm.reset_prefix_cache()
                made = SIDES[name](engine, llm, count, options.new)
                result["turns"].append({"side": name, "prompts": count, "round": number, **made})
                told = "  ".join(f"{key} {value:.1f}" for key, value in made.items())
                print(f"{count:6} prompts  {name:6} {told}", flush=True)
    result["in_all_s"] = time.monotonic() - begun
    close()
    return result


def main() -> None:
    """Measure both in turn and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?")
    parser.add_argument("--shape", choices=tuple(WIDTHS))
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--prompts", type=int, nargs="+", default=[256])
    parser.add_argument("--new", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--engine", type=json.loads, default={}, help="more arguments of the engine, as JSON")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if importlib.util.find_spec("vllm") is None or not (options.model or (options.shape and options.tokenizer)):
        print("not measured: this needs a GPU with vllm and a model's folder, or --shape and --tokenizer")
        return
    with tempfile.TemporaryDirectory() as folder:
        model, keys = options.model, {**ENGINE, **options.engine}
        if options.shape:
            model = str(shaped(options.shape, options.tokenizer, Path(folder) / "model"))
            keys["load_format"] = "dummy"
        result = measure(model, keys, options)
    for count in options.prompts:
        turns = [turn for turn in result["turns"] if turn["prompts"] == count]
        ours, theirs, bare = (
            statistics.median(turn[key] for turn in turns if turn["side"] == side)
            for side, key in (("stage", "tokens_per_s"), ("alone", "tokens_per_s"), ("alone", "bare_tokens_per_s"))
        )
        told = f"the stage makes {ours / theirs:.1%} of vLLM's tokens/s, {ours / bare:.1%} of those on ready-made ids"
        print(f"{count:6} prompts  {told}")
    print(f"engine ready in {result['start_s']:.0f} s, {result['in_all_s']:.0f} s in all")
    if options.out:
        about = {"shape": options.shape, "new": options.new, "engine": keys}
        options.out.write_text(json.dumps({**about, **result}, indent=2))


if __name__ == "__main__":
    main()
