"""Says which weights of a model learn: a low-rank adapter beside them, all of them, or those of certain names."""

import json
import re
from collections.abc import Iterator
from typing import Any

from runner.core.errors import ConfigError, ModelError
from runner.core.specs import Lora, TrainType
from runner.models.quiet import quiet

EMBEDDINGS = ("embed_tokens", "wte", "lm_head")


def tune(model: Any, train_type: TrainType) -> Any:
    """The model with the right weights learning, in training mode. Adapters start at random: set the seed before.

    Args:
        model: as loaded; one with an adapter goes on learning that adapter under lora and qlora.

    Raises:
        ConfigError: patterns or targets that no weight has. ModelError: an adapter where full weights should learn.
    """
    kinds = {"lora": _lora, "qlora": _lora, "full": _full, "freeze": _freeze}
    return kinds[train_type.kind](model, train_type).train()


def _full(model: Any, train_type: TrainType) -> Any:
    _without_adapter(model, train_type)
    return model.requires_grad_(True)


def _freeze(model: Any, train_type: TrainType) -> Any:
    _without_adapter(model, train_type)
    patterns = [_pattern(pattern, place) for place, pattern in enumerate(train_type.patterns)]
    if not patterns:
        raise ConfigError(
            "train_type.patterns", "empty, and under freeze only what they name learns", "For example: [layers.0]"
        )
    names = [name for name, _ in model.named_parameters()]
    for place, pattern in enumerate(patterns):
        if not any(pattern.search(name) for name in names):
            raise ConfigError(
                f"train_type.patterns.{place}",
                f"no weight is named like {pattern.pattern!r}",
                f"The first is {names[0]}.",
            )
    for name, weight in model.named_parameters():
        weight.requires_grad_(any(pattern.search(name) for pattern in patterns))
    return model


def _pattern(text: str, place: int) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise ConfigError(f"train_type.patterns.{place}", f"{text!r} is no regular expression: {error}") from None


def _lora(model: Any, train_type: TrainType) -> Any:
    from peft import get_peft_model

    if hasattr(model, "peft_config"):
        return _go_on(model, train_type.lora)
    # a base in 4 bits is not `prepare`d by peft: that makes float32 of embeddings and head, 5 GB of an 8B model
    try:
        with quiet():
            return get_peft_model(model, _config(train_type.lora, model))
    except ValueError as error:
        if "not found in the base model" not in str(error):
            raise
        layers = sorted(
            {name.rsplit(".", 1)[-1] for name, part in model.named_modules() if hasattr(part, "in_features")}
        )
        raise ConfigError(
            "train_type.lora.targets", f"no layer of the model is named like {train_type.lora.targets!r}",
            f"Layers: {', '.join(layers)}; or all-linear.",
        ) from None  # fmt: skip


def _config(lora: Lora, model: Any) -> Any:
    from peft import LoraConfig

    alpha: Any = int(lora.alpha) if lora.alpha == int(lora.alpha) else lora.alpha  # other readers want a whole number
    return LoraConfig(
        task_type="CAUSAL_LM", r=lora.rank, lora_alpha=alpha, lora_dropout=lora.dropout, target_modules=lora.targets,
        use_dora=lora.dora, use_rslora=lora.rslora, modules_to_save=list(lora.modules_to_save) or None,
        ensure_weight_tying=_touches_tied(lora, model), revision=getattr(model, "base_revision", None),
        fan_in_fan_out=any(hasattr(part, "nf") for part in model.modules()),  # layers of GPT-2's: peft warns otherwise
    )  # fmt: skip


def _touches_tied(lora: Lora, model: Any) -> bool:
    """Whether embeddings that are the output layer too learn: they must stay one, or the model cannot be merged."""
    named = [*lora.modules_to_save, *(lora.targets if isinstance(lora.targets, list) else [])]
    return bool(model.config.tie_word_embeddings) and any(name.split(".")[-1] in EMBEDDINGS for name in named)


def _go_on(model: Any, lora: Lora) -> Any:
    """An adapter that is there learns on; its rank and the like are what they are. What the recipe says otherwise is
    refused, and what it leaves open told: its rank, alpha and dora always count as said.
    """
    own, usual = model.active_peft_config, Lora()
    if own.peft_type != "LORA":
        raise ModelError(f"train_type.kind: lora, and the adapter is of another kind, {own.peft_type}. Merge it first.")
    for key, has, wanted in (
        ("rank", own.r, lora.rank),
        ("alpha", own.lora_alpha, lora.alpha),
        ("dora", own.use_dora, lora.dora),
    ):
        if has != wanted:
            raise ConfigError(
                f"train_type.lora.{key}", f"{wanted}, and the adapter that goes on learning has {has}",
                f"Say train_type.lora.{key}={has}, or merge the adapter first.",
            )  # fmt: skip
    for key, found, wanted in _more(model, own, lora):
        if found == wanted:
            continue
        told = found if isinstance(found, str) else json.dumps(found).replace('"', "").replace(" ", "")
        if getattr(lora, key) != getattr(usual, key):
            raise ConfigError(
                f"train_type.lora.{key}", f"{getattr(lora, key)}, and the adapter that goes on learning has {told}",
                f"Say train_type.lora.{key}={told}, or merge the adapter first.",
            )  # fmt: skip
        print(f"train_type.lora.{key}: the adapter that goes on learning keeps its own, {told}", flush=True)
    for name, weight in model.named_parameters():
        weight.requires_grad_(".lora_" in name or ".modules_to_save." in name)
    own.inference_mode = False
    return model


def _more(model: Any, own: Any, lora: Lora) -> Iterator[tuple[str, Any, Any]]:
    """Each further key whose value an adapter has already: what it has and what is wanted, as the recipe says them."""
    yield "dropout", own.lora_dropout, lora.dropout
    yield "rslora", own.use_rslora, lora.rslora
    yield "modules_to_save", sorted(own.modules_to_save or []), sorted(lora.modules_to_save)
    adapted, meant = _layers(model.get_base_model(), lora.targets)
    has = own.target_modules if isinstance(own.target_modules, str) else sorted(own.target_modules or [])
    yield "targets", has, has if adapted == meant else lora.targets


def _layers(base: Any, targets: str | list[str]) -> tuple[set[str], set[str]]:
    """The layers that an adapter lies on, and those that the targets mean."""
    import torch
    from peft import LoraConfig
    from peft.tuners.tuners_utils import BaseTunerLayer, check_target_module_exists
    from peft.utils import ModulesToSaveWrapper

    parts = dict(base.named_modules())
    adapted = {name for name, part in parts.items() if isinstance(part, BaseTunerLayer)}
    inside = tuple(
        name + "." for name, part in parts.items() if isinstance(part, BaseTunerLayer | ModulesToSaveWrapper)
    )
    parts = {name: part for name, part in parts.items() if not name.startswith(inside)}
    if targets != "all-linear":
        config = LoraConfig(target_modules=targets)
        return adapted, {name for name in parts if check_target_module_exists(config, name)}
    head = base.get_output_embeddings()
    linear = {name for name, part in parts.items() if isinstance(part, torch.nn.Linear) or hasattr(part, "nf")}
    return adapted, {name for name in linear | adapted if parts[name] is not head}


def _without_adapter(model: Any, train_type: TrainType) -> None:
    if hasattr(model, "peft_config"):
        raise ModelError(
            f"train_type.kind: {train_type.kind}, and the model is an adapter on a base. Merge it first, or take lora."
        )
