"""Small real things for tests: a byte-level tokenizer with chat templates of two kinds, and models with random weights.

`chatml` never changes an earlier turn, has a default system prompt and pads with its end-of-turn token, as SmolLM2
does. `thinker` drops the thoughts of turns before the last question and adds an empty thought where there is none, as
Qwen3 does, and renders tools.
"""

from functools import cache
from pathlib import Path
from typing import Any

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
PLAIN = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"]

CHATML = """\
{%- if messages[0].role != 'system' %}{{ '<|im_start|>system\\nBe kind.<|im_end|>\\n' }}{% endif %}
{%- for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

THINKER = """\
{%- set place = namespace(question=-1) %}
{%- for m in messages %}{% if m.role == 'user' %}{% set place.question = loop.index0 %}{% endif %}{% endfor %}
{%- if tools %}
  {{- '<|im_start|>system\\n' }}
  {%- if messages[0].role == 'system' %}{{ messages[0].content + '\\n\\n' }}{% endif %}
  {{- 'Functions:' }}{% for tool in tools %}{{ '\\n' + tool | tojson }}{% endfor %}
  {{- '<|im_end|>\\n' }}
{%- endif %}
{%- for m in messages %}
  {%- if m.role == 'tool' %}
    {{- '<|im_start|>user\\n<tool_response>\\n' + m.content + '\\n</tool_response><|im_end|>\\n' }}
  {%- elif m.role != 'assistant' %}
    {%- if not (tools and loop.first and m.role == 'system') %}
      {{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}
    {%- endif %}
  {%- else %}
    {%- set said = m.content.split('</think>')[-1].lstrip('\\n') %}
    {%- set thought = m.reasoning_content if m.reasoning_content is string else '' %}
    {%- if '</think>' in m.content %}
      {%- set thought = m.content.split('</think>')[0].split('<think>')[-1] %}
    {%- endif %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if loop.index0 > place.question and (loop.last or thought) %}
      {{- '<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' }}
    {%- endif %}
    {{- said }}
    {%- for call in m.tool_calls or [] %}
      {%- set call = call.function if call.function else call %}
      {{- ('\\n' if said or not loop.first else '') + '<tool_call>\\n{"name": "' + call.name + '", "arguments": ' }}
      {{- call.arguments if call.arguments is string else call.arguments | tojson }}
      {{- '}\\n</tool_call>' }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
  {{- '<|im_start|>assistant\\n' }}
  {%- if enable_thinking is defined and not enable_thinking %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}
{%- endif %}"""

TEMPLATES = {"chatml": CHATML, "thinker": THINKER}
WORDS = (
    "the capital of France is Paris. who are you? I am a small model made for tests, hello and thank you. 0123456789"
)


@cache
def _backend() -> str:
    """The tokenizer as JSON: byte-level BPE, digits one by one, some merges of everyday words."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.normalizer = normalizers.NFC()
    pattern = r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False, min_frequency=1)
    made.train_from_iterator([WORDS, "\n\n" + WORDS + "\n\n\n"] * 2, trainer)
    made.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL])
    made.add_tokens([AddedToken(token, normalized=False) for token in PLAIN])
    return str(made.to_str())


def tiny_tokenizer(kind: str = "chatml") -> Any:
    """A fast tokenizer of about 400 tokens. kind: chatml, thinker, or the text of a chat template."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    pad = "<|im_end|>" if kind == "chatml" else "<|endoftext|>"
    made = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_backend()), eos_token="<|im_end|>", pad_token=pad, model_max_length=4096
    )
    made.chat_template = TEMPLATES.get(kind, kind)
    return made


def tiny_model(folder: Path, family: str = "llama", kind: str = "chatml", seed: int = 0) -> Path:
    """A chat model with random weights (2 layers, hidden 64, float32) in a folder. family: llama | qwen3."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

    tokenizer = tiny_tokenizer(kind)
    shape: dict[str, Any] = {
        "vocab_size": len(tokenizer), "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096,
        "tie_word_embeddings": True,
        "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None,
    }  # fmt: skip
    torch.manual_seed(seed)
    if family == "qwen3":
        model: Any = Qwen3ForCausalLM(Qwen3Config(**shape, head_dim=16))
    else:
        model = LlamaForCausalLM(LlamaConfig(**shape))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
