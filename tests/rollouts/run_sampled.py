"""GRPO of a tiny model in a process of its own, which can be killed or stopped; its files afterwards."""

import contextlib
import hashlib
import json
import multiprocessing
import os
import signal
import sys
from pathlib import Path
from typing import Any

from runner.core.errors import RunnerError
from runner.core.job import Job
from runner.core.schema import build
from runner.engines.ranks import free_port
from runner.stages.grpo import Grpo
from tests.training.run_small import PRELOAD, Trap

REWARD = '''
"""The share of the letter e; ends the training's process at a call that a file names."""
import os
import signal
from pathlib import Path

calls = 0


def letters(completions: list[str], *, place: str = "") -> list[float | None]:
    global calls
    calls += 1
    file = Path(place) / "kill_at"
    if place and file.is_file() and calls == int(file.read_text()):
        file.unlink()
        os.kill(os.getppid(), signal.SIGKILL)
    return [text.count("e") / max(1, len(text)) for text in completions]
'''
KEYS: dict[str, Any] = {
    "train_type": {"kind": "lora", "lora": {"rank": 4}}, "optim": {"lr": 1e-2}, "save": {"every": 3},
    "log": {"every": 1}, "batch": {"tokens_per_device": 400}, "sampling": {"max_new_tokens": 6},
    "prompts_per_update": 2, "num_generations": 4, "updates_per_rollout": 2, "num_iterations": 2, "beta": 0.01,
    "max_updates": 16,
}  # fmt: skip


def rows(folder: Path, count: int = 12) -> Path:
    """Prompts in a file."""
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(talk(n)) + "\n" for n in range(count)))
    return file


def aside(
    folder: Path, every: int = 4, count: int = 3, at_start: bool = False, **keys: Any
) -> dict[str, Any]:  # fmt: skip
    """Prompts in another file, kept aside for evaluation; the keys of a stage that evaluates."""
    (folder / "aside.jsonl").write_text("".join(json.dumps(talk(100 + n)) + "\n" for n in range(count)))
    sets = {"datasets": [str(folder / "rows.jsonl")], "validation": {"datasets": [str(folder / "aside.jsonl")]}}
    return {"mix": sets, "eval": {"every": every, "at_start": at_start}, **keys}


def talk(number: int) -> dict[str, Any]:
    """A row."""
    return {"messages": [{"role": "user", "content": f"say {number}"}], "number": number}


def plugin(folder: Path, text: str = REWARD, name: str = "letters") -> None:
    """A reward of the user's."""
    file = folder / "plugins/rewards" / f"{name}.py"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def stage(folder: Path, model: Path, **keys: Any) -> Grpo:
    """The stage over rows and reward that lie in `folder`."""
    given = {
        "model": {"id": str(model)}, "mix": {"datasets": [str(folder / "rows.jsonl")]},
        "reward": {"letters": {"params": {"place": str(folder)}}}, **KEYS,
    }  # fmt: skip
    return build(Grpo, {**given, **keys}, "stages.train")


def main(
    folder: Path, model: Path, out: Path, event: str, update: int, rank: int, world: int, port: int, preset: str
) -> None:
    """Train; exit code 0, or that of the error."""
    import torch

    os.setsid()
    if world > 1:
        group = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in group.items()})
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    log = os.open(out / f"log{rank or ''}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    trap = Trap(event, update)
    job = Job("train", out, out, roots=(folder,), fingerprint="same", progress=trap, stopping=trap.stop.is_set)
    try:
        more = {"parallelism": {"preset": preset, "gpus": world}} if world > 1 else {}
        stage(folder, model, **more, **aside(folder, at_start=True)).run(job)
    except RunnerError as error:
        print(error, flush=True)
        sys.exit(error.exit_code)


def run(
    folder: Path, model: Path, out: Path, event: str = "", update: int = 0, world: int = 1, preset: str = "ddp"
) -> int:
    """Train in a process of its own, or several; the exit code of the first."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([*PRELOAD, "tests.rollouts.run_sampled"])
    port, started = free_port(), []
    for rank in range(world):
        arguments = (folder, model, out, event, update, rank, world, port, preset)
        started.append(server.Process(target=main, args=arguments, daemon=False))
        started[-1].start()
    for process in started:
        process.join(120)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid or 0, signal.SIGKILL)
    assert started[0].exitcode is not None, (out / "log").read_text()
    return started[0].exitcode


def made(out: Path) -> tuple[str, list[dict[str, Any]], list[dict[str, Any]]]:
    """Digest of the weights, answers and figures without what the clock says."""
    digest = hashlib.sha256((out / "model/adapter_model.safetensors").read_bytes()).hexdigest()
    lines = [
        [json.loads(line) for line in (out / name).read_text().splitlines()]
        for name in ("completions.jsonl", "metrics.jsonl")
    ]
    clock = ("seconds", "eval_seconds", "data_seconds", "tokens_per_s", "trained_tokens_per_s", "memory_gib", "mfu")
    kept = [[{k: v for k, v in one.items() if not k.startswith(clock)} for one in part] for part in lines]
    return digest, [{**one, "id": Path(one["id"]).name} for one in kept[0]], kept[1]


def evaluations(out: Path) -> list[dict[str, Any]]:
    """The answers to prompts kept aside, without what the clock says."""
    lines = [json.loads(line) for line in (out / "evaluations.jsonl").read_text().splitlines()]
    return [{**one, "id": Path(one["id"]).name, "seconds": 0} for one in lines]


def alerts(out: Path) -> list[str]:
    """The sentences that were said, each with its update."""
    file = out / "alerts.jsonl"
    return file.read_text().splitlines() if file.is_file() else []
