"""What vLLM is started with (the arguments of `backend.engine` over what recipe and model folder say), and asked."""

import ast
import importlib.util
import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from runner.backends import _completion
from runner.core.errors import ConfigError, ModelError, StageError, near_miss
from runner.core.specs import Model, Sampling
from runner.models.locate import ADAPTER, Located

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # of adapters, that vLLM has kernels for
QUIET = {"VLLM_LOGGING_LEVEL": "WARNING", "VLLM_NO_USAGE_STATS": "1", "VLLM_CONFIGURE_LOGGING": "1"}
RANGES = {"temperature": (0.0, 2.0), "presence_penalty": (-2.0, 2.0), "frequency_penalty": (-2.0, 2.0)}
OWN = ("model", "tokenizer", "enable_lora")  # what the model's place decides


def names() -> set[str] | None:
    """Every argument of the installed vLLM's engine, read from its source text; None where vLLM is not installed."""
    spec = importlib.util.find_spec("vllm")
    for place in (spec.submodule_search_locations or []) if spec else []:
        file = Path(place) / "engine" / "arg_utils.py"
        tree = ast.parse(file.read_text(encoding="utf-8")) if file.is_file() else ast.Module([], [])
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and node.name == "EngineArgs":
                fields = [part.target for part in node.body if isinstance(part, ast.AnnAssign)]
                return {target.id for target in fields if isinstance(target, ast.Name)}
    return None


def check(engine: dict[str, Any], key: str = "backend.engine") -> None:
    """Refuse what vLLM does not know, without importing it.

    Raises:
        ConfigError: an unknown argument, or one that the model decides.
    """
    known = names()
    for name in engine:
        if name in OWN:
            raise ConfigError(f"{key}.{name}", "is what model says", "Leave it out.")
        if known is not None and name not in known:
            raise ConfigError(
                f"{key}.{name}", f"vLLM has no such argument (value {engine[name]!r})", near_miss(name, known)
            )


def check_sampling(sampling: Sampling, key: str = "sampling") -> None:
    """Refuse what vLLM does.

    Raises:
        ConfigError: a number outside of its range.
    """
    for name in RANGES:
        check_number(name, getattr(sampling, name), f"{key}.{name}")


def check_number(name: str, value: float | None, key: str) -> None:
    """The same of one number, that stands at `key`."""
    low, high = RANGES[name]
    if value is not None and not low <= value <= high:
        raise ConfigError(key, f"vLLM takes {low:g} to {high:g}, not {value:g}")


def arguments(located: Located, model: Model, engine: dict[str, Any]) -> dict[str, Any]:
    """Keywords of vLLM's EngineArgs.

    Raises:
        ModelError: an adapter of a kind that vLLM cannot serve beside its base.
    """
    made: dict[str, Any] = {
        "model": str(located.base),
        "dtype": model.dtype,
        "trust_remote_code": model.trust_remote_code,
        "disable_log_stats": True,
    }
    if located.adapter is not None:
        if (located.adapter / "tokenizer.json").is_file():
            made["tokenizer"] = str(located.adapter)
        made |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": _rank(located.adapter)}
    return {**made, **engine}


def _rank(adapter: Path) -> int:
    config = json.loads((adapter / ADAPTER).read_text(encoding="utf-8"))
    for name, told in (("use_dora", "DoRA"), ("modules_to_save", "whole modules beside its low ranks")):
        if config.get(name):
            raise ModelError(
                f"{adapter}: has {told}, which vLLM cannot serve beside the base model. "
                "Merge it first (a merge stage, or +recipe=merge), or take backend=transformers."
            )
    highest = max([config.get("r", 8), *(config.get("rank_pattern") or {}).values()])
    fitting = [rank for rank in RANKS if rank >= highest]
    if not fitting:
        raise ModelError(f"{adapter}: rank {highest} is more than vLLM serves ({RANKS[-1]}). Merge it first.")
    return fitting[0]


def sampling_keys(sampling: Sampling, ends: set[int]) -> dict[str, Any]:
    """Keywords of vLLM's SamplingParams, of a resolved `sampling`; guided answers are added by the backend.

    Unless a stop string is looked for, vLLM does not spell an answer token by token, in each step: its ids are spelled
    once, when all are there (`answered`). Log-probabilities come as one list (`told`), not as objects for each token.
    """
    return {
        "n": sampling.n,
        "max_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "repetition_penalty": sampling.repetition_penalty,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "stop": list(sampling.stop),
        "stop_token_ids": sorted(ends),
        "logprobs": 0 if sampling.logprobs else None,
        "flat_logprobs": True,
        "detokenize": bool(sampling.stop),
    }


def told(made: Any) -> list[float]:
    """The log-probability of each token of one of vLLM's finished outputs, asked for with `sampling_keys`.

    Raises:
        StageError: vLLM told them of other tokens than it drew.
    """
    if list(made.logprobs.token_ids) != list(made.token_ids):
        raise StageError("vLLM's log-probabilities are not those of the tokens that it drew: they cannot be used.")
    return [float(value) for value in made.logprobs.logprobs]


def answered(made: Any, stop: Sequence[str], tokenizer: Any, ends: Collection[int]) -> str:
    """The text of one of vLLM's finished outputs, asked for with `sampling_keys`."""
    return str(made.text) if stop else _completion.spelled(tokenizer, made.token_ids, ends)
