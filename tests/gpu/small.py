"""A small Qwen3 of random weights with heads of 64, for engines whose kernels want them so."""

from pathlib import Path
from typing import Any

from tests.tiny import tiny_tokenizer


def small_qwen3(folder: Path, seed: int = 0, **keys: Any) -> Any:
    """Write it in bfloat16 with its tokenizer; the model. keys: of the config."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = tiny_tokenizer("thinker")
    torch.manual_seed(seed)
    shape = {
        "vocab_size": 512, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "max_position_embeddings": 4096,
        "tie_word_embeddings": True, "dtype": "bfloat16",
    }  # fmt: skip
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model = Qwen3ForCausalLM(Qwen3Config(**{**shape, **ends, **keys})).to(torch.bfloat16)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model
