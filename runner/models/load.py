"""Reads tokenizer and model from where `locate` found them, and refuses what would go wrong later without a word:
weights that are missing or of another shape, an adapter of another base, a tokenizer of another model.
"""

import os
from pathlib import Path
from typing import Any

from runner.core.errors import ModelError, told
from runner.core.places import expanded
from runner.core.specs import Model, TrainType
from runner.models import attention
from runner.models import hub as hubs
from runner.models.adapter import attach
from runner.models.facts import facts
from runner.models.locate import CONFIG, Located, is_hub_id, locate
from runner.models.quiet import quiet

TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")
OWN_CODE = "brings Python code of its own. If you trust it: model.trust_remote_code=true"


def load_tokenizer(located: Located, *, chat: bool = True) -> Any:
    """The tokenizer of the adapter where it brings one, else of the base.

    Without a pad token it pads with its end mark: never tell padding by the id alone.

    Args:
        chat: whether conversations will be rendered: then a chat template is needed.

    Raises:
        ModelError: no tokenizer, no chat template, more tokens than the model has embeddings.
    """
    from transformers import AutoTokenizer

    places = [folder for folder in (located.adapter, located.base) if folder is not None]
    folder = next((place for place in places if any((place / name).is_file() for name in TOKENIZER)), None)
    if folder is None:
        raise ModelError(f"{located.base}: holds no tokenizer ({TOKENIZER[0]}). Copy the one of its base model there.")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=located.trusted)
    except Exception as error:  # files of any content raise anything, tokenizers' own bare Exception too
        if "trust_remote_code" in str(error):
            raise ModelError(f"{folder}: this tokenizer {OWN_CODE}") from None
        raise ModelError(f"{folder}: its tokenizer cannot be read: {told(error)}.") from error
    if chat and not tokenizer.chat_template:
        raise ModelError(
            f"{folder}: this tokenizer has no chat template. "
            "Take a chat model, or put its chat_template.jinja into the folder."
        )
    _check_size(tokenizer, located.base, folder)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def tokenizer_of(name: str, hub: str, key: str, *, chat: bool = True) -> Any:
    """The tokenizer of a model that is elsewhere: of a hub's model nothing but it is fetched.

    Args:
        name: a hub id, or what `locate` finds here. key: of the recipe, for sentences.

    Raises:
        ModelError: see `locate` and `load_tokenizer`.
    """
    if is_hub_id(name) and not expanded(name).exists():
        return load_tokenizer(Located(hubs.download(name, None, hub, key=key, weights=False), None, name), chat=chat)
    return load_tokenizer(locate(Model(id=name), hub), chat=chat)


def _check_size(tokenizer: Any, base: Path, folder: Path) -> None:
    config = facts(base / CONFIG)
    known = config.get("vocab_size") or (config.get("text_config") or {}).get("vocab_size")
    beyond = {number: token for token, number in tokenizer.get_vocab().items() if known is not None and number >= known}
    if beyond and not _idle(tokenizer, beyond):
        raise ModelError(
            f"{folder}: its tokenizer has ids up to {max(beyond)}, the model {base} has {known} embeddings. "
            "Tokenizer and model do not belong together."
        )


def _idle(tokenizer: Any, tokens: dict[int, str]) -> bool:
    """Whether tokens are for other members of the family, as that for images is to Gemma 3's smallest model: special,
    so that words that spell them stay words, and used by no role and no template.
    """
    added, template = tokenizer.added_tokens_decoder, str(tokenizer.chat_template)
    used = {tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token, tokenizer.unk_token}
    return all(
        number in added and added[number].special and token not in used and token not in template
        for number, token in tokens.items()
    )


def load_model(located: Located, model: Model, train_type: TrainType | None = None) -> Any:
    """The model, its adapter attached beside the weights, in evaluation mode.

    On a GPU of this process alone the model lies there; several processes get it on the CPU and place it themselves.

    Args:
        model: dtype auto is bfloat16 on a GPU and float32 on a CPU. train_type: of a model that is to be
            trained; under qlora the base is held in 4 bits.

    Raises:
        ModelError: no safetensors, missing weights, weights of another shape, an adapter of another base.
    """
    import torch

    _check_files(located.base)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = attention.choose(model.attention, device)
    kernel = attention.implementation(chosen.name, training=train_type is not None)
    automatic = torch.bfloat16 if device == "cuda" else torch.float32
    dtype = automatic if model.dtype == "auto" else getattr(torch, model.dtype)
    options: dict[str, Any] = {"dtype": dtype, "attn_implementation": kernel}
    if train_type is not None and train_type.kind == "qlora":
        options["quantization_config"] = four_bits(device)
    loaded = _read(located, options, model.trust_remote_code)
    if device == "cuda" and int(os.environ.get("WORLD_SIZE", "1")) == 1 and "quantization_config" not in options:
        loaded = loaded.to(device)
    loaded.config._name_or_path = located.name  # how an adapter made of it will call its base
    loaded.base_revision = located.revision  # and which of its states it will ask for
    if located.adapter is not None:
        loaded = attach(loaded, located)
    return loaded.eval()


def _check_files(folder: Path) -> None:
    if any(folder.glob("*.safetensors")):
        return
    others = [path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in sorted(folder.glob(pattern))]
    found = f"only {others[0]}, a format that can run code when it is read" if others else "no weights"
    raise ModelError(f"{folder}: holds {found}. Weights are read from *.safetensors only.")


def _read(located: Located, options: dict[str, Any], trusted: bool) -> Any:
    from transformers import AutoModelForCausalLM

    base = located.base
    try:
        with quiet():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                base, use_safetensors=True, output_loading_info=True, trust_remote_code=trusted,
                local_files_only=True, ignore_mismatched_sizes=True, **options,
            )  # fmt: skip
    except (MemoryError, RuntimeError):  # memory that ran out is told by who asked for the model
        raise
    except Exception as error:  # a config of any content raises anything
        if "trust_remote_code" in str(error):
            raise ModelError(f"{base}: this model {OWN_CODE}") from None
        raise ModelError(f"{base}: cannot be loaded: {told(error)}.") from error
    model, facts = loaded
    _check_weights(base, facts)
    return model


def _check_weights(base: Path, facts: Any) -> None:
    """transformers fills what it does not find with random numbers; that must not pass."""
    for name, in_file, in_model in sorted(facts["mismatched_keys"]):
        raise ModelError(
            f"{base}: {name} is {_shape(in_file)} in the file and {_shape(in_model)} by {CONFIG}. "
            f"Weights and {CONFIG} are of different models."
        )
    missing = sorted(facts["missing_keys"])
    if missing:
        raise ModelError(
            f"{base}: {len(missing)} weights are missing, for example {missing[0]}. Copy or download it again."
        )


def _shape(shape: Any) -> str:
    return " x ".join(str(size) for size in shape)


def four_bits(device: str) -> Any:
    """How qlora holds its base: 4-bit NormalFloat, Dettmers et al. 2023 (arXiv 2305.14314)."""
    import importlib.util

    import torch

    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError(
            "train_type.kind: qlora needs the package bitsandbytes. pip install bitsandbytes, or take lora."
        )
    if device != "cuda":
        raise ModelError("train_type.kind: qlora needs a GPU. Take lora.")
    import transformers

    make: Any = transformers.BitsAndBytesConfig
    return make(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
