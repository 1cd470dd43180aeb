"""Trainings of the small model by several processes on the CPU, each preset in turn.

FSDP2 on a CPU: accelerate enters its FSDP branch for GPUs only; `fsdp_on_cpu` lets it in, so that the real
`fully_shard` runs over gloo.
"""

import dataclasses
import json
import math
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from runner.core.errors import RunnerError
from runner.core.job import Job, Progress
from runner.core.specs import Batch, Eval, Log, Optim, Parallelism, Save
from runner.engines.ranks import free_port
from runner.training.settings import Settings
from tests.training import small

PRELOAD = ["peft", "transformers", "runner.training._update_trainer", "runner.training._beat", "tests.engines.group"]
CLOCKS = (
    "seconds",
    "data_seconds",
    "tokens_per_s",
    "trained_tokens_per_s",
    "memory_gib",
    "eval_seconds",
    "mfu",
    "padding_share",
)


class StopAt(Progress):
    """Asks for a stop once so many updates are done, or kills this process (a negative number)."""

    def __init__(self, update: int) -> None:
        self.at, self.reached, self.done = update, False, 0

    def update(self, done: int, total: int, what: str = "", **shown: Any) -> None:
        self.done = done
        self.reached = self.reached or done == self.at
        if done == -self.at:
            os.kill(os.getpid(), signal.SIGKILL)


def fsdp_on_cpu() -> None:
    """Let accelerate's FSDP branch run without a GPU."""
    from accelerate.state import AcceleratorState, DistributedType, PartialState

    before = AcceleratorState.__init__

    def after(self: Any, *given: Any, **named: Any) -> None:
        plugin = named.get("fsdp_plugin")
        before(self, *given, **named)
        if plugin is not None and self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type = DistributedType.FSDP
            self.fsdp_plugin = plugin
            PartialState._shared_state["distributed_type"] = DistributedType.FSDP

    AcceleratorState.__init__ = after


def slow_disk(trap: StopAt) -> None:
    """Updates take their time; a device's part of a checkpoint is not begun before the next one is done."""
    import torch

    real, update = torch.save, trap.update

    def later(thing: Any, file: Any, *more: Any, **keys: Any) -> None:
        if "optim_states" in str(file):
            asked, end = int(str(file).partition("global_step")[2].partition("/")[0]), time.monotonic() + 20
            while 0 < trap.done <= asked and time.monotonic() < end:  # only the first device hears of updates
                time.sleep(0.02)
            print(f"{Path(file).name} is begun after update {trap.done}", flush=True)
        real(thing, file, *more, **keys)

    def slowly(done: int, *told: Any, **shown: Any) -> None:
        time.sleep(0.4)
        update(done, *told, **shown)

    torch.save, trap.update = later, slowly  # type: ignore[method-assign,assignment]


def full_disk() -> None:
    """A device's part of the last checkpoint cannot be written."""
    import torch

    real = torch.save

    def fails(thing: Any, file: Any, *more: Any, **keys: Any) -> None:
        if "global_step6" in str(file):
            raise OSError(28, "No space left on device")
        real(thing, file, *more, **keys)

    torch.save = fails  # type: ignore[method-assign,assignment]


def no_memory() -> None:
    """This device has none left for the second update's micro-batches, which are of any size."""
    import torch

    from runner.algorithms.sft import Sft

    plain, seen = Sft.loss, list[int]()

    def loss(self: Any, predictions: Any, micro: Any, totals: Any) -> Any:
        seen.append(micro.slots)
        if len(seen) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, predictions, micro, totals)

    Sft.loss = loss  # type: ignore[method-assign]


def told_of_whole_gradients() -> None:
    """FSDP2 says when every device is to keep the gradients of all weights."""
    from torch.distributed.fsdp import FSDPModule

    def told(self: Any, exchange: bool, *more: Any, **keys: Any) -> None:
        print("gradients are exchanged" if exchange else "gradients are kept whole", flush=True)

    FSDPModule.set_requires_gradient_sync = told  # type: ignore[method-assign]


def main(folder: Path, preset: str, kind: str, stop: int, rank: int, world: int, port: int, shim: bool) -> None:
    """Train; the exit code is that of the error, whose sentence goes to FOLDER/error.RANK."""
    import torch

    torch.set_num_threads(1)
    if preset != "single":
        told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in told.items()})
    folder.mkdir(parents=True, exist_ok=True)
    log = os.open(folder / f"log.{rank}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if shim:
        fsdp_on_cpu()
    settings = Settings(
        lr=1e-2, optim=Optim(warmup=0.1, max_grad_norm=0.5), eval=Eval(every=4), save=Save(every=3), log=Log(every=1),
        parallelism=Parallelism(preset=preset, gpus=world, timeout=3 if kind == "hangs" else 60),
    )  # fmt: skip
    trap = StopAt(stop)
    if kind == "slow disk":
        slow_disk(trap)
    if kind == "whole gradients":
        told_of_whole_gradients()
    if kind == "full disk" and rank == 1:
        full_disk()
    if kind == "no memory" and rank == world - 1:
        no_memory()
    job = Job(name="train", folder=folder, run=folder, progress=trap, stopping=lambda: trap.reached)
    if kind == "hangs" and rank == 1:
        job = dataclasses.replace(job, stopping=lambda: bool(time.sleep(8)))
    makers = {
        "dropout": lambda: small.model(dropout=0.1),
        "lora": lambda: small.adapter(dropout=0.0),
        "experts": small.experts,
    }
    learner = makers.get(kind, small.model)()
    data = small.rows(40)
    for row in {"sick": [20], "sick so far": range(40) if stop else []}.get(kind, []):
        data[row] = dataclasses.replace(data[row], weights=[math.nan] * len(data[row].input_ids))
    code = 0
    try:
        small.fit(
            folder, learner, data, kept=small.rows(6, seed=9), batch=Batch(rows=7), budget=80, epochs=1.0,
            settings=settings, job=job,
        )  # fmt: skip
    except RunnerError as error:
        (folder / f"error.{rank}").write_text(str(error))
        code = error.exit_code
    sys.stdout.flush()
    os._exit(code)


def run(folder: Path, preset: str, kind: str = "full", stop: int = 0, world: int = 2, shim: bool = True) -> list[int]:
    """Train to the end, or to update `stop` (negative: killed there); the exit code of each process."""
    import torch

    on_gpus = torch.cuda.device_count() > 0  # whose driver does not outlive a fork
    server = multiprocessing.get_context("spawn" if on_gpus else "forkserver")
    server.set_forkserver_preload(PRELOAD)
    port, processes = free_port(), []
    for rank in range(world):
        processes.append(server.Process(target=main, args=(folder, preset, kind, stop, rank, world, port, shim)))
        processes[-1].start()
    for process in processes:
        process.join(200)
        assert process.exitcode is not None, (folder / "log.0").read_text()
    print(*(file.read_text()[-2000:] for file in sorted(folder.glob("error.*"))), sep="\n")  # pytest shows it
    return [process.exitcode for process in processes]


def figures(folder: Path) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl without what the clock and the cutting tell."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in CLOCKS} for line in lines]


def weights(folder: Path, kind: str = "full") -> dict[str, Any]:
    """The finished model's weights, as transformers (or peft) loads them."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    if kind == "lora":
        made = PeftModel.from_pretrained(small.model(), folder / "model")
    else:
        made = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    return dict(made.state_dict())
