"""Fills what `sampling` leaves open from the model's generation config, so that all backends get the same numbers."""

import dataclasses
from pathlib import Path
from typing import Any

from runner.core.errors import ConfigError, ModelError
from runner.core.specs import Sampling
from runner.models.facts import facts

FILE = "generation_config.json"
NEUTRAL = {"top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}


def generation_config(folder: Path) -> dict[str, Any]:
    """What the model folder's generation_config.json says, empty where there is none.

    Raises:
        ModelError: it is no JSON, or one of its numbers is none.
    """
    file = folder / FILE
    told = facts(file) if file.is_file() else {}
    ends = told.get("eos_token_id")
    numbers = [(name, told.get(name)) for name in (*NEUTRAL, "temperature")]
    numbers += [("eos_token_id", end) for end in (ends if isinstance(ends, list) else [ends])]
    for name, value in numbers:
        if value is not None and not isinstance(value, int | float):
            raise ModelError(f"{file}: {name} should be a number, not {value!r}.")
    return told


def resolve(sampling: Sampling, config: dict[str, Any]) -> Sampling:
    """`sampling` without None in what decides a draw.

    A temperature that neither says is 1 where the model's config samples (`do_sample`) and 0, greedy, elsewhere.

    Raises:
        ConfigError: several samples of a greedy answer.
    """
    filled: dict[str, Any] = {}
    for name, neutral in NEUTRAL.items():
        own, common = getattr(sampling, name), config.get(name)
        filled[name] = own if own is not None else neutral if common is None else common
    filled["top_k"] = max(int(filled["top_k"]), 0)  # -1 and 0 mean all
    temperature = sampling.temperature
    if temperature is None:
        said = config.get("temperature")
        temperature = (1.0 if said is None else float(said)) if config.get("do_sample") else 0.0
    filled["temperature"] = temperature
    if temperature == 0 and sampling.n > 1:
        fix = "Say sampling.temperature, above 0."
        raise ConfigError("sampling.n", f"{sampling.n} samples of a model whose own config is greedy are the same", fix)
    filled["presence_penalty"] = sampling.presence_penalty or 0.0
    filled["frequency_penalty"] = sampling.frequency_penalty or 0.0
    return dataclasses.replace(sampling, **filled)


def end_ids(config: dict[str, Any], tokenizer: Any) -> set[int]:
    """The tokens that end an answer: those of the generation config and the tokenizer's own."""
    said = config.get("eos_token_id")
    ends = set(said) if isinstance(said, list) else {said}
    return {int(token) for token in (*ends, tokenizer.eos_token_id) if token is not None}
