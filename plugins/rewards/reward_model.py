"""The number that a reward model gives an answer: one made by the stage kind reward_model, or a hub's of that form.

`model` is its folder, that of a run or a stage which made it, a stage of this run (`stage:NAME`), or the hub's id where
transformers finds it. The conversation is written by the model's own chat template and read at the answer's last token,
thoughts included.
"""

import json
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from runner.api import ConfigError

KEY = "reward.reward_model.params.model"


def reward_model(
    completions: list[str], *, messages: list[Any], model: str = "", batch: int = 8, max_length: int = 4096,
    device: str = "auto",
) -> list[float | None]:  # fmt: skip
    """A number of any size; None for an answer that with its question is longer than `max_length` tokens."""
    import torch

    if not model:
        raise ConfigError(KEY, "missing", "Name the folder of a reward model.")
    scorer, tokenizer = _loaded(model, device)
    ids = [_ids(tokenizer, asked, said) for asked, said in zip(messages, completions, strict=True)]
    order = sorted((i for i in range(len(ids)) if len(ids[i]) <= max_length), key=lambda i: len(ids[i]))
    scores: list[float | None] = [None] * len(ids)
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        with torch.no_grad():
            for i, score in zip(chosen, _scores(scorer, [ids[i] for i in chosen]), strict=True):
                scores[i] = score
    return scores


@lru_cache(maxsize=1)
def _loaded(name: str, device: str) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    place = _folder(name)
    chosen = _device(torch.cuda.device_count()) if device == "auto" else device
    try:
        scorer = AutoModelForSequenceClassification.from_pretrained(place, dtype="auto", use_safetensors=True)
    except (OSError, ValueError) as error:
        raise ConfigError(KEY, f"{name} cannot be loaded: {str(error).splitlines()[0]}") from None
    scorer = scorer.to(chosen).eval()
    if scorer.config.num_labels != 1:
        raise ConfigError(KEY, f"{name} has {scorer.config.num_labels} labels, not one")
    return scorer, AutoTokenizer.from_pretrained(place)


def _device(gpus: int) -> str:
    """The GPU of the process that trains, which starts this one: else all of a host's would share the first."""
    return f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % gpus}" if gpus else "cpu"


def _folder(name: str) -> str:
    """A stage's folder says in its artifact where the model lies; a run's has such a stage."""
    here = Path(name)
    found = [
        str(file.parent / Path(made["path"]).name)
        for file in (here / "artifact.json", *here.glob("*/artifact.json"))
        if file.is_file() and (made := json.loads(file.read_text(encoding="utf-8")))["kind"] == "reward_model"
    ]
    if len(found) > 1 or (here.is_dir() and not found and not (here / "config.json").is_file()):
        told = f"several reward models: {', '.join(found)}" if found else "no reward model"
        raise ConfigError(KEY, f"{name} holds {told}", "Name the folder of one.")
    return found[0] if found else name


def _ids(tokenizer: Any, asked: Sequence[Mapping[str, Any]], said: str) -> list[int]:
    """The conversation up to the token that ends the answer."""
    talk = [*map(dict, asked), {"role": "assistant", "content": said}]
    ids = list(tokenizer(tokenizer.apply_chat_template(talk, tokenize=False), add_special_tokens=False)["input_ids"])
    special = set(tokenizer.all_special_ids)
    end = max((place for place, token in enumerate(ids) if token in special), default=len(ids) - 1)
    return ids[: end + 1]


def _scores(scorer: Any, rows: Sequence[Sequence[int]]) -> list[float]:
    """Padded on the right; told by length, never by the pad token, which may be the one that ends a turn."""
    import torch

    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=scorer.device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=scorer.device)
    body = getattr(scorer, scorer.base_model_prefix)
    hidden = body(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    ends = torch.tensor([len(row) - 1 for row in rows], device=scorer.device)
    last = hidden[torch.arange(len(rows), device=scorer.device), ends]
    return [float(score) for score in scorer.score(last)[:, 0].float().tolist()]
