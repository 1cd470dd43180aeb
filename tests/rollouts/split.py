"""GRPO by two processes on the CPU with weights split over them, and an engine in each that holds them whole."""

import contextlib
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

from runner.core.job import Job
from runner.engines.ranks import free_port
from tests.rollouts.run_sampled import stage
from tests.training.small import Silent

PRELOAD = ["peft", "transformers", "runner.training._update_trainer", "tests.rollouts.split"]


def main(folder: Path, model: Path, out: Path, rank: int, port: int, keys: dict[str, Any]) -> None:
    """Train; exit code 0."""
    import pytest
    import torch
    from transformers.integrations import deepspeed

    from tests.rollouts.engine import Engine, install

    os.setsid()
    group = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in group.items()})
    torch.set_num_threads(1)
    out.mkdir(exist_ok=True)
    log = os.open(out / f"log.{rank}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    install(pytest.MonkeyPatch())
    begin: Any = Engine.__init__

    def whole(self: Engine, given: dict[str, Any]) -> None:
        kept = deepspeed._hf_deepspeed_config_weak_ref
        deepspeed._hf_deepspeed_config_weak_ref = None  # transformers would split the engine's model too
        begin(self, given)
        deepspeed._hf_deepspeed_config_weak_ref = kept

    Engine.__init__ = whole  # type: ignore[method-assign]
    job = Job("train", out, out, roots=(folder,), fingerprint="split", progress=Silent())
    stage(folder, model, **keys).run(job)


def run(folder: Path, model: Path, out: Path, keys: dict[str, Any]) -> list[int | None]:
    """The exit codes of both processes."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(PRELOAD)
    port = free_port()
    started = [
        server.Process(target=main, args=(folder, model, out, rank, port, keys), daemon=False) for rank in (0, 1)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(180)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid or 0, signal.SIGKILL)
    return [process.exitcode for process in started]
