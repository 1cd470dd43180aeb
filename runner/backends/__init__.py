"""Engines that answer prompts, one file each, behind one protocol. `start` chooses one and makes it ready.

A backend is made from the layers `backend` and `model`; it owns the tokenizer, so that the prompt's ids are the same
whichever engine answers.
"""

import importlib.util
from pathlib import Path

from runner.backends._completion import Prompt
from runner.backends._engine import Engine
from runner.backends._feed import Ask, ListFeed
from runner.core import registry
from runner.core.errors import ConfigError
from runner.core.specs import Backend, Model, Sampling

DEVICES = ("/dev/nvidiactl", "/dev/dxg")  # where a GPU can be used: Linux, and Linux inside Windows

__all__ = ["Ask", "Engine", "ListFeed", "Prompt", "begin", "check", "choose", "start"]


def choose(name: str) -> str:
    """`auto`: vLLM where there is a GPU and vLLM is installed, else transformers."""
    if name != "auto":
        return name
    if importlib.util.find_spec("vllm") is None:
        return "transformers"
    import torch

    return "vllm" if torch.cuda.device_count() else "transformers"  # counting leaves the driver alone: vLLM forks


def lacking() -> str | None:
    """Why `auto` is transformers on this machine, as far as that can be known without a heavy import."""
    if importlib.util.find_spec("vllm") is None:
        return "vLLM is not installed"
    return None if any(Path(device).exists() for device in DEVICES) else "there is no GPU"


def check(backend: Backend, model: Model, key: str, sampling: Sampling | None = None) -> None:
    """At plan time, without a heavy import: refuse engine arguments that are not known, a model that is not there, and
    sampling that the engine cannot do.

    key: of the stage.

    Raises:
        ConfigError: with the key.
    """
    from runner.models.locate import check as check_model

    if backend.name != "openai":  # there it is a name that a server knows
        check_model(model, f"{key}.model")
    name = backend.name
    if name == "auto":
        lacks = lacking()
        if lacks and backend.engine:
            problem = f"backend=auto is transformers here ({lacks}), which takes no engine arguments"
            fix = "Leave it out, or choose the engine that it is meant for: backend=vllm."
            raise ConfigError(f"{key}.backend.engine.{next(iter(backend.engine))}", problem, fix)
        name = "vllm" if backend.engine else "transformers" if lacks else "auto"
    if name != "auto":
        try:
            registry.load("backends", name).check(backend, sampling or Sampling())
        except ConfigError as error:
            raise ConfigError(f"{key}.{error.key}", error.problem, error.fix) from None


def start(backend: Backend, model: Model, hub: str, gpus: int = 1) -> Engine:
    """Load the model into the engine that `backend.name` says; into several where there are GPUs for more than one.

    Raises:
        ConfigError: an engine argument that the engine does not know. ModelError: a model that it cannot load.
    """
    each = int(backend.engine.get("tensor_parallel_size", 1)) * int(backend.engine.get("pipeline_parallel_size", 1))
    if gpus <= each or choose(backend.name) == "openai":
        return begin(backend, model, hub)
    from runner.backends._replicas import Replicas, devices

    return Replicas(begin, backend, model, hub, devices(gpus, each))


def begin(backend: Backend, model: Model, hub: str) -> Engine:
    """One engine in this process."""
    made = registry.load("backends", choose(backend.name), key="backend.name")
    engine: Engine = made(backend, model, hub)
    return engine
