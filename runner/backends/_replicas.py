"""Several engines of one host at work on one queue of prompts: each in a process of its own, on GPUs of its own.

The parent cuts the input into chunks while it makes the prompts; whoever is ready takes the next. A replica that ends
before its work does ends the stage, with its exit code.
"""

import contextlib
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_context
from queue import Empty
from typing import Any

from runner.backends._completion import Prompt
from runner.backends._engine import Engine, Finished
from runner.backends._feed import Ask, Feed, QueueFeed, cut
from runner.core.errors import ConfigError, RunnerError, StageError
from runner.core.orphans import end_with_parent
from runner.core.specs import Backend, Model, Sampling
from runner.core.types import Completion

Begin = Callable[[Backend, Model, str], Engine]  # makes one engine in the process that calls it

AT_ONCE = 64  # prompts that are made between looks at whether the user wants to stop
MOST = 1024  # prompts a replica that are cut into chunks together
PATIENCE = 0.2  # seconds between looks at whether the replicas live and the user wants to stop
VISIBLE = "CUDA_VISIBLE_DEVICES"


def devices(gpus: int, each: int) -> list[list[str]]:
    """The GPUs of each replica, within those that this process may see; none where there are none.

    Raises:
        ConfigError: fewer GPUs than asked for, or a number that cannot be shared out.
    """
    if gpus % each:
        fix = f"Give a multiple of {each}."
        raise ConfigError("parallelism.gpus", f"{gpus} GPUs cannot be shared out by {each} a replica", fix)
    seen = _visible()
    if not seen:
        return [[] for _ in range(gpus // each)]
    if gpus > len(seen):
        raise ConfigError("parallelism.gpus", f"{gpus} GPUs, and there are {len(seen)}")
    return [seen[start : start + each] for start in range(0, gpus, each)]


def _visible() -> list[str]:
    if VISIBLE in os.environ:
        return [name.strip() for name in os.environ[VISIBLE].split(",") if name.strip()]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


class Replicas(Engine):
    """Engines behind the protocol of one."""

    def __init__(self, begin: Begin, backend: Backend, model: Model, hub: str, places: Sequence[Sequence[str]]) -> None:
        from runner.models.load import load_tokenizer
        from runner.models.locate import locate

        self.tokenizer = load_tokenizer(locate(model, hub))
        context = get_context("spawn")
        self.tasks, self.results, self.orders = context.Queue(), context.Queue(), []
        self.processes: list[Any] = []
        for number, own in enumerate(places):
            orders = context.Queue()
            self.orders.append(orders)
            given = (begin, number, list(own), backend, model, hub, orders, self.tasks, self.results)
            self.processes.append(context.Process(target=_serve, args=given, daemon=False))
            self.processes[-1].start()
        self.context: int = min(value for kind, value in (self._next() for _ in places) if kind == "ready")

    def work(self, feed: Feed, sampling: Sampling, finished: Finished) -> None:
        """See `Engine.work`."""
        for orders in self.orders:
            orders.put(sampling)
        try:
            for chunk in self._cut(feed):
                self.tasks.put(chunk)
                while (told := self._next(feed.pulse, wait=False)) is not None:
                    finished(*told[1])  # before the last chunk nobody is done
            for _ in self.processes:
                self.tasks.put(None)
            left = len(self.processes)
            while left:
                kind, value = self._next(feed.pulse)
                if kind == "answer":
                    finished(*value)
                left -= kind == "over"
        except BaseException:
            self._kill()  # they are in the middle of it
            raise

    def _cut(self, feed: Feed) -> Iterator[list[Ask]]:
        """The input as chunks while it is taken: all begin at once, and go on with ever more, up to what MOST says."""
        takers, held, enough = len(self.processes), list[Ask](), AT_ONCE * len(self.processes)
        while taken := feed.take(AT_ONCE, wait=True):
            feed.pulse()
            held += taken
            if len(held) >= enough:
                yield from cut(held, takers)
                held, enough = [], min(2 * enough, MOST * takers)
        yield from cut(held, takers)

    def stream(self, prompt: Prompt, sampling: Sampling, seed: int = 0) -> Iterator[str | Completion]:
        """Not by pieces: the whole answer."""
        ((made,),) = self.generate([prompt], sampling, [seed])
        yield made.text
        yield made

    def close(self) -> None:
        """End the replicas."""
        for orders in self.orders:
            orders.put(None)
        for process in self.processes:
            process.join(30)
            if process.is_alive():
                process.kill()
                process.join()

    def _next(self, pulse: Callable[[], None] = lambda: None, wait: bool = True) -> Any:
        """The next word of a replica, its kind and its value; None where there is none now and none is waited for.

        Raises:
            RunnerError: a replica's own, or the news that one ended. What `pulse` raises.
        """
        while True:
            pulse()
            try:
                kind, value = self.results.get(block=wait, timeout=PATIENCE)
            except Empty:
                ended = [(n, process.exitcode) for n, process in enumerate(self.processes) if not process.is_alive()]
                if ended:
                    self._kill()
                    raise StageError(
                        f"replica {ended[0][0]} ended (exit code {ended[0][1]}). Its words stand above."
                    ) from None
                if wait:
                    continue
                return None
            if kind == "failed":
                self._kill()
                raise value
            return kind, value

    def _kill(self) -> None:
        for process in self.processes:
            process.kill()
        for queue in (self.tasks, *self.orders):
            queue.cancel_join_thread()  # nobody takes what is left in it
        self.orders = []


def _serve(
    begin: Begin,
    number: int,
    own: list[str],
    backend: Backend,
    model: Model,
    hub: str,
    orders: Any,
    tasks: Any,
    results: Any,
) -> None:
    """A replica's process: start the engine on its GPUs, then work off orders until there are no more."""
    end_with_parent()
    if own:
        os.environ[VISIBLE] = ",".join(own)
    try:
        engine = begin(backend, model, hub)
        results.put(("ready", engine.context))
        while (order := orders.get()) is not None:
            engine.work(QueueFeed(tasks), order, lambda place, made: results.put(("answer", (place, made))))
            results.put(("over", None))
        with contextlib.suppress(Exception):  # it ends with this process anyway
            engine.close()
    except RunnerError as error:
        results.put(("failed", error))
    except Exception:  # noqa: BLE001 - whatever an engine raises is told to the parent
        results.put(("failed", StageError(f"replica {number}: {traceback.format_exc().rstrip()}")))
