"""The shape of a model, read from its config.json without loading it, or known by name; and how many weights it has."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.core import artifact
from runner.core.places import expanded
from runner.models.facts import facts


@dataclass(frozen=True)
class Shape:
    """A decoder of the Llama kind. experts: 0 for dense; then `intermediate` is that of one expert."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool
    experts: int = 0

    @property
    def linear(self) -> dict[str, tuple[int, int]]:
        """The linear layers of one block: name -> (in, out). One expert stands for all."""
        query, key = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return {
            "q_proj": (self.hidden, query), "k_proj": (self.hidden, key), "v_proj": (self.hidden, key),
            "o_proj": (query, self.hidden), "gate_proj": (self.hidden, self.intermediate),
            "up_proj": (self.hidden, self.intermediate), "down_proj": (self.intermediate, self.hidden),
        }  # fmt: skip

    @property
    def in_layers(self) -> int:
        """Weights of all linear layers of all blocks, every expert's too."""
        return sum(size for name, size in self.named() if "_proj." in name)

    @property
    def parameters(self) -> int:
        """All weights, embeddings included."""
        return sum(size for _, size in self.named())

    def named(self) -> Iterator[tuple[str, int]]:
        """Each weight by its name in a model of the Llama kind, the experts of a layer as one: name, numbers in it."""
        yield "model.embed_tokens.weight", self.vocabulary * self.hidden
        for place in range(self.layers):
            layer = f"model.layers.{place}"
            for name, (rows, columns) in self.linear.items():
                inner = name[0] in "gud"
                part = ("mlp.experts" if self.experts else "mlp") if inner else "self_attn"
                yield f"{layer}.{part}.{name}.weight", rows * columns * (max(1, self.experts) if inner else 1)
            if self.experts:
                yield f"{layer}.mlp.gate.weight", self.hidden * self.experts
            yield f"{layer}.input_layernorm.weight", self.hidden
            yield f"{layer}.post_attention_layernorm.weight", self.hidden
        yield "model.norm.weight", self.hidden
        if not self.tied:
            yield "lm_head.weight", self.vocabulary * self.hidden


def _dense(hidden: int, intermediate: int, layers: int, heads: int, kv_heads: int, tied: bool) -> Shape:
    return Shape(hidden, intermediate, layers, heads, kv_heads, 128, 151936, tied)


KNOWN = {  # Qwen3 technical report, table 1 (arXiv 2505.09388), and the published config.json files
    "qwen3-0.6b": _dense(1024, 3072, 28, 16, 8, True),
    "qwen3-1.7b": _dense(2048, 6144, 28, 16, 8, True),
    "qwen3-4b": _dense(2560, 9728, 36, 32, 8, True),
    "qwen3-8b": _dense(4096, 12288, 36, 32, 8, False),
    "qwen3-14b": _dense(5120, 17408, 40, 40, 8, False),
    "qwen3-32b": _dense(5120, 25600, 64, 64, 8, False),
    "qwen3-30b-a3b": Shape(2048, 768, 48, 32, 4, 128, 151936, False, 128),
    "smollm2-135m-instruct": Shape(576, 1536, 30, 9, 3, 64, 49152, True),
}


def shape_of(name: str) -> Shape | None:
    """The shape of a local folder's model (the base of an adapter), or of a hub id that is known; else None."""
    folder = expanded(name)
    if folder.is_dir():
        return _in_folder(folder)
    last = name.split("#")[0].rstrip("/").rsplit("/", 1)[-1].lower()
    return next((KNOWN[key] for key in sorted(KNOWN, key=len, reverse=True) if last.startswith(key)), None)


def _in_folder(folder: Path) -> Shape | None:
    if (folder / "config.json").is_file():
        return from_config(facts(folder / "config.json"))
    if (folder / "adapter_config.json").is_file():
        base = facts(folder / "adapter_config.json").get("base_model_name_or_path")
        if not base or not isinstance(base, str) or (Path(base) / "adapter_config.json").is_file():
            return None  # an adapter on an adapter is refused when it is read
        return shape_of(base)
    made = artifact.read(folder)
    if made is None or made.path == str(folder):
        return None
    return shape_of(made.base or made.path)


def from_config(config: Mapping[str, Any]) -> Shape | None:
    """The shape that a config.json tells; None for architectures of other kinds."""
    text = config.get("text_config") or config
    try:
        heads, hidden = int(text["num_attention_heads"]), int(text["hidden_size"])
        experts = int(text.get("num_experts") or text.get("num_local_experts") or 0)
        width = text.get("moe_intermediate_size") if experts else None
        return Shape(
            hidden, int(width or text["intermediate_size"]), int(text["num_hidden_layers"]), heads,
            int(text.get("num_key_value_heads") or heads), int(text.get("head_dim") or hidden // heads),
            int(text["vocab_size"]), bool(config.get("tie_word_embeddings", True)), experts,
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError):
        return None
