"""The batch stage on vLLM against vLLM's own `LLM.generate`: the same prompts and settings, on one GPU, in one run.

    python tests/benchmarks/generation_vllm.py MODEL_FOLDER [--prompts 4096] [--new 512] [--out FILE.json]

Each is measured in a process of its own, engine start and answers apart.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ENGINE = {"max_model_len": 2048, "gpu_memory_utilization": 0.9}


def questions(count: int) -> list[str]:
    """Questions of different lengths."""
    return [f"Number {n}: tell me about " + "the sea and " * (n % 40 + 1) + "the sky." for n in range(count)]


def alone(options: argparse.Namespace) -> dict[str, float]:
    """vLLM's own offline class on the ids that the runner would send."""
    from vllm import LLM, SamplingParams

    from runner.core.specs import Model, Template
    from runner.core.types import Message
    from runner.data.render import prompt_text
    from runner.models.load import load_tokenizer
    from runner.models.locate import locate

    begun = time.monotonic()
    engine = LLM(options.model, **ENGINE)
    ready = time.monotonic()
    tokenizer = load_tokenizer(locate(Model(id=options.model), "huggingface"))
    texts = [prompt_text(tokenizer, [Message("user", text)], Template()) for text in questions(options.prompts)]
    prompts = [{"prompt_token_ids": tokenizer(text, add_special_tokens=False)["input_ids"]} for text in texts]
    made = engine.generate(prompts, SamplingParams(max_tokens=options.new, temperature=1.0), use_tqdm=False)
    return _figures(begun, ready, sum(len(output.outputs[0].token_ids) for output in made))


def stage(options: argparse.Namespace) -> dict[str, float]:
    """The infer stage as a recipe runs it, files included."""
    from runner.backends import vllm
    from runner.core import schema
    from runner.core.job import Job
    from runner.stages._completions import read
    from runner.stages.infer import Infer

    times: list[float] = []
    start = vllm._start

    def timed(keys: Any) -> Any:
        engine = start(keys)
        times.append(time.monotonic())
        return engine

    vllm._start = timed
    begun = time.monotonic()
    keys = {
        "model": {"id": options.model}, "template": {}, "parallelism": {}, "questions": questions(options.prompts),
        "sampling": {"max_new_tokens": options.new, "temperature": 1.0, "top_p": 1.0, "top_k": -1},
        "backend": {"name": "vllm", "engine": ENGINE}, "show": 0,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        made = schema.build(Infer, keys).run(Job("infer", Path(folder), Path(folder)))
        tokens = sum(row["completion_tokens"] for row in read(Path(made.path)))
    return _figures(begun, times[0], tokens)


def _figures(begun: float, ready: float, tokens: int) -> dict[str, float]:
    now = time.monotonic()
    seconds = now - ready
    return {
        "start_s": ready - begun,
        "answers_s": seconds,
        "total_s": now - begun,
        "tokens": tokens,
        "tokens_per_s": tokens / seconds,
    }


def main() -> None:
    """Measure both in turn and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--prompts", type=int, default=256)
    parser.add_argument("--new", type=int, default=512)
    parser.add_argument("--only", choices=("alone", "stage"))
    parser.add_argument("--out")
    options = parser.parse_args()
    if options.only:
        print("RESULT " + json.dumps({"alone": alone, "stage": stage}[options.only](options)), flush=True)
        return
    results = {}
    for name in ("alone", "stage"):
        words = [sys.executable, __file__, options.model, "--prompts", str(options.prompts), "--new", str(options.new)]
        done = subprocess.run([*words, "--only", name], stdout=subprocess.PIPE, text=True, check=True)
        results[name] = json.loads(done.stdout.rpartition("RESULT ")[2])
        told = "  ".join(f"{key} {value:.1f}" for key, value in results[name].items())
        print(f"{name:6} {told}", flush=True)
    share = results["stage"]["tokens_per_s"] / results["alone"]["tokens_per_s"]
    print(f"the stage makes {share:.1%} of vLLM's tokens/s")
    if options.out:
        Path(options.out).write_text(
            json.dumps({"options": vars(options), "results": results, "share": share}, indent=2)
        )


if __name__ == "__main__":
    main()
