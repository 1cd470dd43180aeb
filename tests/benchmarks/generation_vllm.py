"""The batch stage on vLLM against vLLM's own `LLM.generate`: the same prompts and settings, on one GPU, in one run.

    python tests/benchmarks/generation_vllm.py MODEL_FOLDER [--prompts 256 4096] [--new 512] [--rounds 1] [--out FILE]
    python tests/benchmarks/generation_vllm.py --shape 1.7b --tokenizer FOLDER     random weights of Qwen3-1.7B's shape

Each side has a process of its own, whose engine answers the smaller numbers of prompts first. Tokens/s count from the
moment the engine stands, so they hold everything that comes after: prompts made and tokenized, answers, and for the
stage its rows written to the disk; "bare" ones are those of vLLM once its prompts are ids.
"""

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RESULT = "RESULT "
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


def alone(options: argparse.Namespace) -> Iterator[dict[str, float]]:
    """vLLM's own offline class on the ids that the runner would send."""
    from vllm import LLM, SamplingParams

    from runner.backends._completion import prompt
    from runner.core.specs import Model, Template
    from runner.core.types import Message
    from runner.models.load import load_tokenizer
    from runner.models.locate import locate

    begun = time.monotonic()
    tokenizer = load_tokenizer(locate(Model(id=options.model), "huggingface"))
    engine = LLM(options.model, **_engine(options))
    start = time.monotonic() - begun
    for count in options.prompts:
        ready = time.monotonic()
        made_here = [prompt(tokenizer, [Message("user", text)], Template()) for text in questions(count)]
        prompts = [{"prompt_token_ids": list(one.ids)} for one in made_here]
        asked = time.monotonic()
        made = engine.generate(prompts, SamplingParams(max_tokens=options.new, temperature=1.0), use_tqdm=False)
        answered = time.monotonic()
        tokens = sum(len(output.outputs[0].token_ids) for output in made)
        bare = {"bare_tokens_per_s": tokens / (answered - asked)}
        yield {**_figures(start, answered - ready, tokens, len(made)), **bare}
    engine.llm_engine.engine_core.shutdown()


def stage(options: argparse.Namespace) -> Iterator[dict[str, float]]:
    """The infer stage as a recipe runs it, files included; its engine stays for the next number of prompts."""
    from runner import backends
    from runner.core import schema
    from runner.core.job import Job
    from runner.core.specs import Backend, Model
    from runner.stages._completions import read
    from runner.stages.infer import Infer

    begun = time.monotonic()
    engine = backends.start(Backend(name="vllm", engine=_engine(options)), Model(id=options.model), "huggingface")
    start = time.monotonic() - begun
    close, times = engine.close, {"answered": 0.0}

    def answered() -> None:
        times["answered"] = time.monotonic()  # the last row is on the disk

    engine.close = answered  # type: ignore[method-assign]
    backends.start = lambda *_: engine  # type: ignore[assignment]
    for count in options.prompts:
        keys = {
            "model": {"id": options.model}, "template": {}, "parallelism": {}, "questions": questions(count),
            "sampling": {"max_new_tokens": options.new, "temperature": 1.0, "top_p": 1.0, "top_k": -1},
            "backend": {"name": "vllm", "engine": _engine(options)}, "show": 0,
        }  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            ready = time.monotonic()
            made = schema.build(Infer, keys).run(Job("infer", Path(folder), Path(folder)))
            rows = read(Path(made.path))
        tokens = sum(row["completion_tokens"] for row in rows)
        yield _figures(start, times["answered"] - ready, tokens, len(rows))
    close()


def _engine(options: argparse.Namespace) -> dict[str, Any]:
    return {**ENGINE, **({"load_format": "dummy"} if options.dummy else {})}


def _figures(start: float, seconds: float, tokens: int, rows: int) -> dict[str, float]:
    return {"rows": rows, "start_s": start, "answers_s": seconds, "tokens": tokens, "tokens_per_s": tokens / seconds}


def measured(options: argparse.Namespace, name: str) -> list[dict[str, float]]:
    """One side, in a process of its own: figures of each number of prompts, told as they come."""
    words = [sys.executable, __file__, options.model, "--prompts", *map(str, options.prompts)]
    words += ["--new", str(options.new), "--only", name, *(["--dummy"] if options.dummy else [])]
    begun, found = time.monotonic(), list[dict[str, float]]()
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as side:
        for line in side.stdout or ():
            if not line.startswith(RESULT):
                continue
            found.append(json.loads(line.removeprefix(RESULT)))
            told = "  ".join(f"{key} {value:.1f}" for key, value in found[-1].items())
            print(f"{found[-1]['rows']:6} prompts  {name:6} {told}", flush=True)
    if side.returncode:
        sys.exit(f"{name} failed (exit code {side.returncode})")
    print(f"{name}: {time.monotonic() - begun:.0f} s in all", flush=True)
    return found


def main() -> None:
    """Measure both in turn and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?")
    parser.add_argument("--shape", choices=tuple(WIDTHS))
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--prompts", type=int, nargs="+", default=[256])
    parser.add_argument("--new", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", choices=("alone", "stage"))
    parser.add_argument("--dummy", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if importlib.util.find_spec("vllm") is None or not (options.model or (options.shape and options.tokenizer)):
        print("not measured: this needs a GPU with vllm and a model's folder, or --shape and --tokenizer")
        return
    if options.only:
        for made in {"alone": alone, "stage": stage}[options.only](options):
            print(RESULT + json.dumps(made), flush=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        if options.shape:
            options.model, options.dummy = str(shaped(options.shape, options.tokenizer, Path(folder) / "model")), True
        results = [
            {"prompts": count, "round": number, "alone": one, "stage": other}
            for number in range(options.rounds)
            for sides in (
                {name: measured(options, name) for name in [("alone", "stage"), ("stage", "alone")][number % 2]},
            )
            for count, one, other in zip(options.prompts, sides["alone"], sides["stage"], strict=True)
        ]
    for result in results:
        result["share"] = result["stage"]["tokens_per_s"] / result["alone"]["tokens_per_s"]
        bare = result["stage"]["tokens_per_s"] / result["alone"]["bare_tokens_per_s"]
        told = f"the stage makes {result['share']:.1%} of vLLM's tokens/s, {bare:.1%} of those on ready-made ids"
        print(f"{result['prompts']:6} prompts  {told}")
    if options.out:
        about = {"shape": options.shape, "new": options.new, "engine": _engine(options)}
        options.out.write_text(json.dumps({**about, "results": results}, indent=2))


if __name__ == "__main__":
    main()
