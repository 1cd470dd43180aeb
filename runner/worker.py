"""Runs one stage from its folder: `python -m runner.worker FOLDER` reads job.yaml, does the work, writes artifact.json.

SIGTERM and Ctrl-C ask the stage to stop at its next good moment; a second one ends it at once. The worker dies with
its parent: it watches a pipe that only the parent holds open. A stage that is spread over devices is run by one such
process a device, which this one starts and outlives; the first of them alone writes what the stage made.
"""

import dataclasses
import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

import yaml

from runner.core import artifact, registry, schema
from runner.core.errors import DataError, Interrupted, RunnerError, disk_error, missing_extra
from runner.core.job import JOB_FILE, PARENT_FD, Job
from runner.engines import launch, ranks
from runner.lock import locked, unlocked

SAME_REQUEST = 1.0  # seconds: a cluster signals the worker too, beside the parent, which passes its own on


def run(folder: Path, stopping: threading.Event | None = None) -> artifact.Artifact:
    """Do the stage's work in this process.

    Args:
        stopping: set when the user asks to stop; None where the stage is not all that this process does.

    Raises:
        RunnerError: what the stage could not do, in one sentence.
    """
    order = read_order(folder)
    places = tuple(Path(place) for place in order["roots"])
    kind = registry.load("stages", order["kind"], places, "kind")
    stage = schema.build(kind, order["stage"], f"stages.{order['name']}")
    first = launch.is_first(os.environ)
    if first:
        (folder / artifact.FILE).unlink(missing_ok=True)
    job = Job(
        name=order["name"],
        folder=folder,
        run=Path(order["run"]),
        seed=order["seed"],
        hub=order["hub"],
        roots=places,
        fingerprint=order["fingerprint"],
        identity=order.get("identity", {}),
        stopping=(stopping or threading.Event()).is_set,
        own_process=stopping is not None,
    )
    made: artifact.Artifact = dataclasses.replace(stage.run(job), fingerprint=order["fingerprint"])
    if first:
        artifact.write(folder, made)
    return made


def read_order(folder: Path) -> dict[str, Any]:
    """The stage's job.yaml."""
    file = folder / JOB_FILE
    if not file.is_file():
        raise DataError(f"{file}: not found. Give the folder of a stage, as it lies in a run's folder.")
    return dict(yaml.safe_load(file.read_text(encoding="utf-8")))


def main(arguments: list[str]) -> int:
    """The process: exit code 0 done, 2 the user's mistake, 1 failed, 130 stopped."""
    if len(arguments) != 1:
        print("usage: python -m runner.worker FOLDER", file=sys.stderr)
        return 2
    try:
        return _work(Path(arguments[0]).resolve())
    except KeyboardInterrupt:
        return Interrupted.exit_code
    except RunnerError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:
        missing = missing_extra(error)
        if missing is None:
            raise
        print(missing, file=sys.stderr)
        return missing.exit_code
    except Exception as error:
        sentence = disk_error(error, arguments[0])
        if sentence is None:
            raise
        print(sentence, file=sys.stderr)
        return sentence.exit_code
    finally:
        sys.stdout.flush()


def _work(folder: Path) -> int:
    order = read_order(folder)
    kind = registry.load("stages", order["kind"], [Path(place) for place in order["roots"]], "kind")
    parallelism = launch.wanted(kind, order["stage"])
    one_of_many = parallelism is not None and launch.LOCAL_RANK in os.environ
    _die_with_parent()
    alone = PARENT_FD not in os.environ and kind.reuse != "never" and not one_of_many
    with locked(Path(order["run"])) if alone else unlocked():
        if parallelism is not None and not one_of_many:
            told = launch.ranks(parallelism, _gpus(), os.environ, ranks.free_port())
            return ranks.run(ranks.worker(folder), told, folder, parallelism.timeout)
        if not one_of_many:
            launch.settle(order["stage"], os.environ)
        stopping = threading.Event()
        if kind.interactive:  # its parent ignores Ctrl-C, and a child begins as its parent is
            signal.signal(signal.SIGINT, signal.default_int_handler)
        else:
            _listen(stopping, one_of_many)
        if one_of_many:
            _take_device()
        run(folder, stopping)
    if one_of_many:
        _leave_group()
    return 0


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _take_device() -> None:
    """Each process works on a GPU of its own from the first; what is loaded in 4 bits goes there at once."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ[launch.LOCAL_RANK]))


def _leave_group() -> None:
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _listen(stopping: threading.Event, one_of_many: bool) -> None:
    asked = 0.0

    def stop(number: int, frame: Any) -> None:
        nonlocal asked
        if not stopping.is_set():
            asked = time.monotonic()
        elif time.monotonic() - asked > SAME_REQUEST:
            os._exit(Interrupted.exit_code)
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # a closed terminal; not under nohup
        signal.signal(signal.SIGHUP, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN if one_of_many else stop)
    if one_of_many:
        faulthandler.register(signal.SIGUSR1)  # where it stands, asked for by ranks.py when it hangs


def _die_with_parent() -> None:
    """End at once when the pipe from the parent closes: a killed parent leaves no writer behind."""
    handle = os.environ.get(PARENT_FD)
    if handle is None:
        return

    def watch() -> None:
        os.read(int(handle), 1)
        if os.getpgid(0) == os.getpid():  # what this worker started ends with it
            os.killpg(0, signal.SIGKILL)
        os._exit(Interrupted.exit_code)

    threading.Thread(target=watch, daemon=True).start()


def _as_rank(arguments: list[str]) -> NoReturn:
    """As `main`, and out at once: what is left of a group of devices must not turn the exit code into a crash."""
    code = 1
    try:
        code = main(arguments)
    except Exception:  # noqa: BLE001 - told, and then the process ends
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    if launch.LOCAL_RANK in os.environ:
        _as_rank(sys.argv[1:])
    sys.exit(main(sys.argv[1:]))
