"""How fast rows become tokens and labels: ours, and ms-swift's own load_dataset and encode, one after the other.

usage: python tests/benchmarks/encode_rows.py [--data FOLDER] [--tokenizer FOLDER] [--peer PYTHON] [--rows 50000]
       [--processes 1] [--out encode_rows.json]
data: files of any format that the runner reads; their conversations, numbered, make the rows (the quickstart's by
default). tokenizer: a Qwen3 tokenizer with its config.json (by default the tests' tiny one). peer: the python of an
environment with ms-swift 4.6.0. A process uses one thread. Prints a table, writes JSON: rows/s from the file to labels,
CPU seconds (complete for one process), peak memory of a process, seconds of a second start from the cache.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
OURS = """
import json, resource, sys, time
from pathlib import Path
from transformers import AutoTokenizer
from runner.core.places import package_root
from runner.core.specs import Mix, Template
from runner.data.prepare import Reading, prepare
tokenizer = AutoTokenizer.from_pretrained(sys.argv[2])
def spent():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)
begun, before = time.perf_counter(), spent()
made = prepare(
    tokenizer, Mix(datasets=[sys.argv[1]]), Reading(Template(), ["ignore_empty_think"], 4096), seed=1, hub="modelscope",
    places=[package_root()], max_dropped=1.0, processes=int(sys.argv[3]),
)
seconds, cpu = time.perf_counter() - begun, spent() - before
peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(json.dumps({"seconds": seconds, "cpu": cpu, "rows": len(set(made.train.rows)), "tokens": sum(made.train.lengths),
                  "trained": sum(made.train.sequences.trained()), "peak_gib": peak / 2**20}))
"""
PEER = """
import json, os, resource, sys, time
os.environ["TOKENIZERS_PARALLELISM"] = "false"
from swift.dataset import EncodePreprocessor, load_dataset
from swift.model import get_processor
from swift.template import get_template
processor = get_processor(sys.argv[2], model_type="qwen3")
template = get_template(processor, template_type="qwen3", max_length=4096, loss_scale="default+ignore_empty_think")
template.set_mode("train")
def spent():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)
begun, before = time.perf_counter(), spent()
rows, _ = load_dataset([sys.argv[1]], num_proc=int(sys.argv[3]), load_from_cache_file=False)
made = EncodePreprocessor(template)(rows, num_proc=int(sys.argv[3]), load_from_cache_file=False, strict=False)
seconds, cpu = time.perf_counter() - begun, spent() - before
peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(json.dumps({"seconds": seconds, "cpu": cpu, "rows": len(made),
                  "tokens": sum(len(ids) for ids in made["input_ids"]),
                  "trained": sum(sum(label != -100 for label in labels) for labels in made["labels"]),
                  "peak_gib": peak / 2**20}))
"""


def build(data: Path, file: Path, count: int) -> None:
    """Conversations of all files below `data`, in turn, each made different by its number."""
    from runner.core.places import package_root
    from runner.core.specs import Mix
    from runner.data import mix
    from runner.data.folders import data_files

    names = {"NAME": "Ada", "AUTHOR": "us"}
    given = Mix(datasets=[str(file) for file in data_files(data)], variables=names)
    read = mix.load(given, 1, "modelscope", [package_root()]).train
    talks = [row.messages for row in read if not row.tools and row.messages[-1].role == "assistant"]
    with open(file, "w", encoding="utf-8") as stream:
        for number in range(count):
            said = [{"role": m.role, "content": m.content} for m in talks[number % len(talks)]]
            said[-2]["content"] += f" ({number})"
            stream.write(json.dumps({"messages": said}, ensure_ascii=False) + "\n")


def tiny(folder: Path) -> str:
    """A folder with the tests' tokenizer, whose template is like Qwen3's."""
    from tests.tiny import tiny_tokenizer

    tiny_tokenizer("thinker").save_pretrained(folder / "tokenizer")
    return str(folder / "tokenizer")


def measure(python: str, program: str, words: list[str], cache: Path) -> dict[str, float]:
    """Run a program in a process of its own; its last line is its result."""
    threads = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    environment = {
        **os.environ,
        **threads,
        "PYTHONPATH": str(ROOT),
        "RUNNER_CACHE": str(cache),
        "MODELSCOPE_CACHE": str(cache),
    }
    done = subprocess.run([python, "-c", program, *words], capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    made: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return made


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=ROOT / "recipes" / "quickstart")
    parser.add_argument("--tokenizer")
    parser.add_argument("--peer")
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("encode_rows.json"))
    given = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.jsonl"
        build(given.data, file, given.rows)
        words = [str(file), given.tokenizer or tiny(Path(folder)), str(given.processes)]
        found = {"ours": measure(sys.executable, OURS, words, Path(folder))}
        found["ours, second start"] = measure(sys.executable, OURS, words, Path(folder))
        if given.peer:
            found["ms-swift"] = measure(given.peer, PEER, words, Path(folder))
    print(f"{given.rows} rows, {given.processes} processes, {os.cpu_count()} cores, {platform.processor()}")
    print(f"{'':<20}{'rows/s':>10}{'seconds':>10}{'CPU s':>10}{'peak GiB':>10}{'tokens':>14}{'trained':>14}")
    for name, row in found.items():
        speed = row["rows"] / row["seconds"]
        figures = (
            f"{speed:>10,.0f}{row['seconds']:>10.1f}{row['cpu']:>10.1f}{row['peak_gib']:>10.2f}{row['tokens']:>14,.0f}"
        )
        print(f"{name:<20}{figures}{row['trained']:>14,.0f}")
    given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
