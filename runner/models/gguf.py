"""Turns a GGUF file into a model folder, once: the result is kept in a cache and found again by the file's content.

Weights are unpacked to float32 by transformers. The tokenizer is built here from the file's own tables: what
transformers makes of them loses the splitting of digits, and differs between its releases. Refuses tokenizers of other
families.
"""

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

from runner.core.errors import ModelError, told
from runner.core.places import cache_folder

VERSION = 1  # of this converter: raise it when its result changes
CONTROL, USER_DEFINED = 3, 4  # token types of the format that stand for themselves
PRE = "smollm"  # digits one by one, then byte-level words


def converted(file: Path) -> Path:
    """The model folder of a GGUF file. The first call converts; others that start meanwhile wait for it.

    Raises:
        ModelError: no GGUF file, or one of a kind that is not converted here.
    """
    with open(file, "rb") as stream:
        if stream.read(4) != b"GGUF":
            raise ModelError(f"{file}: is no GGUF file. Give a .gguf file or a model folder.")
        stream.seek(0)
        mark = hashlib.file_digest(stream, "sha256").hexdigest()[:16]
    folder = cache_folder() / "gguf" / f"{file.stem}-{mark}-v{VERSION}"
    if folder.is_dir():
        return folder
    from filelock import FileLock

    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            side = folder.with_name(f".{folder.name}")
            shutil.rmtree(side, ignore_errors=True)
            _convert(file, side)
            os.replace(side, folder)
    return folder


def _convert(file: Path, folder: Path) -> None:
    import torch
    from gguf import GGUFReader
    from transformers import AutoModelForCausalLM, GgufConfig

    from runner.models.quiet import quiet

    try:
        fields = {name: field.contents() for name, field in GGUFReader(file).fields.items()}
        tokenizer = _tokenizer(file, fields)
        print(f"converting {file.name} once into {folder.parent}", flush=True)
        with quiet():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                file.parent, gguf_file=file.name, dtype=torch.float32, output_loading_info=True,
                quantization_config=GgufConfig(dequantize=True),
            )  # fmt: skip
    except (ValueError, IndexError, KeyError, TypeError, OSError, ImportError) as error:  # cut short, or too new
        raise ModelError(f"{file}: cannot be read: {told(error)}. Copy or download it again.") from error
    model, missing = loaded[0], sorted(loaded[1]["missing_keys"])
    if missing:  # transformers fills them with random numbers
        lost = f"{len(missing)} weights are missing, for example {missing[0]}"
        raise ModelError(f"{file}: {lost}. Is it one file of several? Give a folder.")
    with quiet():
        if getattr(model.config, "quantization_config", None) is not None:
            del model.config.quantization_config  # the saved weights are plain
        for config in (model.config, model.generation_config):
            config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
            config.pad_token_id = tokenizer.pad_token_id
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _tokenizer(file: Path, fields: dict[str, Any]) -> Any:
    """A fast tokenizer from the tables of the file.

    fields: by the names of the format: `tokenizer.ggml.tokens` and so on.
    """
    from transformers import PreTrainedTokenizerFast

    kind = (fields.get("tokenizer.ggml.model"), fields.get("tokenizer.ggml.pre"))
    if kind != ("gpt2", PRE):
        raise ModelError(
            f"{file}: its tokenizer is {kind[0]}/{kind[1]}, and only gpt2/{PRE} is converted here. Give a folder."
        )
    tokens = list(fields["tokenizer.ggml.tokens"])

    def special(role: str) -> str:
        return str(tokens[fields[f"tokenizer.ggml.{role}_token_id"]])

    made = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=_byte_level(tokens, fields),
        bos_token=special("bos"), eos_token=special("eos"), unk_token=special("unknown"), pad_token=special("padding"),
        model_max_length=int(fields[f"{fields['general.architecture']}.context_length"]),
    )  # fmt: skip
    made.chat_template = fields.get("tokenizer.chat_template")
    return made


def _byte_level(tokens: list[str], fields: dict[str, Any]) -> Any:
    """Byte-level BPE over single digits."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    merges = [tuple(merge.split(" ", 1)) for merge in fields["tokenizer.ggml.merges"]]
    made = Tokenizer(models.BPE({token: place for place, token in enumerate(tokens)}, merges))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    made.decoder = decoders.ByteLevel()
    kinds = list(zip(tokens, fields["tokenizer.ggml.token_type"], strict=True))
    made.add_special_tokens(
        [AddedToken(token, normalized=False, special=True) for token, kind in kinds if kind == CONTROL]
    )
    made.add_tokens([AddedToken(token, normalized=False) for token, kind in kinds if kind == USER_DEFINED])
    return made
