"""Which engine samples for a training, and what it is told."""

import importlib.metadata
import importlib.util
from typing import Any

from runner.core.errors import ConfigError
from runner.core.specs import Backend, Sampling
from runner.rollouts import address
from runner.rollouts.sampler import Engine, Sampler

LOWEST, HIGHEST = (0, 25), (0, 31)  # releases of vLLM whose weights can be replaced in the way of rollouts/_vllm.py


def check(
    backend: Backend, sampling: Sampling, preset: str, key: str, server: str | None = None, eval_temperature: float = 0
) -> None:  # fmt: skip
    """At plan time: refuse engines that cannot sample from a model that learns, and keys that mean nothing here.

    Raises:
        ConfigError: with the key.
    """
    if server is not None:
        address.check(server, f"{key}.server")
    if backend.name == "openai":
        raise ConfigError(f"{key}.backend.name", "an endpoint cannot sample from weights that change", "Take vllm.")
    if backend.name == "transformers":
        from runner.backends.transformers import Transformers

        Transformers.refuse_arguments(backend.engine, f"{key}.backend.engine")
        check_whole(preset, f"{key}.parallelism.preset")
    if backend.name == "vllm":
        if importlib.util.find_spec("vllm") is not None:  # where it is planned, it need not be installed
            check_vllm(f"{key}.backend.name")
        from runner.backends._vllm_arguments import check as check_arguments

        check_arguments(backend.engine, f"{key}.backend.engine")
    if backend.name == "vllm" or server is not None:
        check_numbers(sampling, eval_temperature, f"{key}.")
    for name in ("tensor_parallel_size", "pipeline_parallel_size"):
        if int(backend.engine.get(name, 1)) > 1:
            raise ConfigError(
                f"{key}.backend.engine.{name}", f"{backend.engine[name]}, and each device samples alone here",
                "Leave it out.",
            )  # fmt: skip
    _check_sampling(sampling, f"{key}.sampling", key)


def _check_sampling(sampling: Sampling, at: str, key: str) -> None:
    """What no engine does in a training."""
    for name in ("guided_json", "guided_regex"):
        if getattr(sampling, name) is not None:
            raise ConfigError(
                f"{at}.{name}", "answers that a training learns from cannot be guided",
                "Leave it out, and reward the form that is wanted.",
            )  # fmt: skip
    if sampling.n != 1:
        raise ConfigError(
            f"{at}.n",
            f"{sampling.n}: answers to a prompt are counted elsewhere",
            f"Say {key}.num_generations.",
        )
    if sampling.temperature == 0:
        raise ConfigError(
            f"{at}.temperature", "0 gives the same answer each time, so nothing can be compared", "Take 1.0."
        )


def check_vllm(key: str) -> None:
    """Refuse a machine without vLLM, and a release of it that is not known.

    Raises:
        ConfigError: with the key.
    """
    if importlib.util.find_spec("vllm") is None:
        raise ConfigError(key, "vLLM is not installed", "Install the extra: vllm, or take backend=transformers.")
    release = importlib.metadata.version("vllm")
    numbers = tuple(int(part) for part in release.split("+")[0].split(".")[:2] if part.isdigit())
    if not LOWEST <= numbers <= HIGHEST:
        raise ConfigError(
            key, f"vLLM {release} is not a release whose weights can be replaced here",
            "pip install 'vllm>=0.25,<=0.31.0'.",
        )  # fmt: skip


def check_numbers(sampling: Sampling, eval_temperature: float, at: str = "") -> None:
    """Refuse what vLLM does not sample by, in a training and its evaluation. at: what comes before their keys.

    Raises:
        ConfigError: with the key.
    """
    from runner.backends._vllm_arguments import check_number, check_sampling

    check_sampling(sampling, f"{at}sampling")
    check_number("temperature", eval_temperature, f"{at}eval_temperature")


def ready(backend: Backend, preset: str, server: str | None, sampling: Sampling, eval_temperature: float) -> None:
    """Before anything is loaded: refuse an engine that is not installed, one that would wait for other devices, and
    numbers that the one which was chosen does not take.

    Raises:
        ConfigError: with the key.
    """
    from runner.backends import choose as choose_backend

    if backend.name == "vllm" or server is not None:
        check_vllm("backend.name" if server is None else "server")
    if server is None and choose_backend(backend.name) == "transformers":
        check_whole(preset, "parallelism.preset")
    else:
        check_numbers(sampling, eval_temperature)


def check_whole(preset: str, key: str) -> None:
    """Refuse to sample by transformers where weights are split: devices whose answers end earlier would be waited for.

    Raises:
        ConfigError: with the key.
    """
    if preset in ("zero3", "zero3_offload", "fsdp2"):
        raise ConfigError(
            key, f"{preset} splits the weights that transformers samples with", "Take backend=vllm, or ddp."
        )


def neutral(sampling: Sampling) -> Sampling:
    """What is left open drawn from the model's own probabilities, whatever its generation config says."""
    import dataclasses

    from runner.backends._sampling import NEUTRAL

    open_ones: dict[str, Any] = {
        name: value for name, value in {"temperature": 1.0, **NEUTRAL}.items() if getattr(sampling, name) is None
    }
    return dataclasses.replace(sampling, **open_ones)


def choose(keys: Engine, tokenizer: Any, located: Any, seed: int) -> Sampler:
    """The engine that `backend.name` says; auto is vLLM where there is a GPU and vLLM is installed."""
    from runner.backends import choose as choose_backend

    sampling = neutral(keys.sampling)
    if keys.server is not None:
        from runner.rollouts._server import LiveServer

        return LiveServer(keys, sampling, tokenizer, located)
    if choose_backend(keys.backend.name) == "vllm":
        from runner.rollouts._vllm import LiveVllm

        check_vllm("backend.name")
        return LiveVllm(keys, sampling, tokenizer, located, seed)
    from runner.rollouts._transformers import LiveTransformers

    made: Sampler = LiveTransformers(tokenizer, keys, sampling)
    return made
