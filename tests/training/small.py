"""A small language model with random weights, rows without any text, and a training of them in one call."""

import random
from pathlib import Path
from typing import Any

from runner.algorithms.sft import Sft
from runner.core.job import Job, Progress
from runner.core.specs import Batch, Optim
from runner.core.types import Encoded
from runner.data.updates import UpdatePlan
from runner.training.evaluation import Evaluation
from runner.training.pace import Extent
from runner.training.planned import Cutting, PlannedUpdates
from runner.training.settings import Settings
from runner.training.train import Trained, Work, train

VOCABULARY = 64


def model(seed: int = 0, dropout: float = 0.0, **keys: Any) -> Any:
    """Two layers of 32, float32; `dropout` is that of attention."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, tie_word_embeddings=True, attention_dropout=dropout, bos_token_id=1, eos_token_id=2,
            pad_token_id=2, **keys,
        )
    )  # fmt: skip


def experts(seed: int = 0) -> Any:
    """A mixture of four experts, of which each token takes two."""
    import torch
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    torch.manual_seed(seed)
    return Qwen3MoeForCausalLM(
        Qwen3MoeConfig(
            vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, moe_intermediate_size=32, head_dim=8,
            num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, num_experts=4, num_experts_per_tok=2,
            bos_token_id=1, eos_token_id=2, pad_token_id=2,
        )
    )  # fmt: skip


def adapter(seed: int = 0, dropout: float = 0.1) -> Any:
    """The model with LoRA on all linear layers."""
    import torch
    from peft import LoraConfig, get_peft_model

    base = model(seed)
    torch.manual_seed(seed + 1)
    config = LoraConfig(r=4, lora_alpha=8, lora_dropout=dropout, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(base, config)


def tokenizer() -> Any:
    """Each number is a word."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<unk>": 0, "<s>": 1, "</s>": 2} | {str(n): n for n in range(3, VOCABULARY)}
    made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="</s>", unk_token="<unk>"
    )


def rows(count: int, seed: int = 0, weighted: bool = True) -> list[Encoded]:
    """Rows that count upwards, of lengths 4 to 40, their later half trained; every third one with weights."""
    rng = random.Random(seed)
    made = []
    for row in range(count):
        length = rng.randint(4, 40)
        first = rng.randint(3, VOCABULARY - 1)
        ids = [3 + (first + i) % (VOCABULARY - 3) for i in range(length)]
        labels = [-100] * (length // 2) + ids[length // 2 :]
        weights = [round(rng.uniform(0.0, 2.0), 2) for _ in ids] if weighted and row % 3 == 0 else None
        made.append(Encoded(ids, labels, weights, source="rows.jsonl", row=row))
    return made


class Silent(Progress):
    """Keeps what it was told."""

    def update(self, done: int, total: int, what: str = "", **shown: Any) -> None:
        self.told = (done, total, what, shown)


def fit(
    folder: Path, learner: Any, data: list[Encoded], *, kept: list[Encoded] | None = None, batch: Batch | None = None,
    budget: int = 200, packed: bool = False, epochs: float = 1.0, max_updates: int | None = None,
    settings: Settings | None = None, job: Job | None = None, extent: Extent | None = None,
) -> Trained:  # fmt: skip
    """Train by supervised fine-tuning in `folder`."""
    algorithm = Sft()
    numbers = list(range(len(data)))
    plan = UpdatePlan([len(s.input_ids) for s in data], numbers, batch or Batch(rows=8), 42, epochs, max_updates)
    folder.mkdir(parents=True, exist_ok=True)
    work = Work(
        total=plan.total,
        cutting=Cutting(budget, packed),
        updates=lambda cutting: PlannedUpdates(data, plan, algorithm, cutting),
        evaluation=(lambda cutting: Evaluation(kept, list(range(len(kept))), algorithm, cutting)) if kept else None,
        extent=extent,
    )
    return train(
        model=learner, tokenizer=tokenizer(), algorithm=algorithm, work=work,
        settings=settings or Settings(lr=1e-2, optim=Optim(warmup=0.1)),
        job=job or Job(name="train", folder=folder, run=folder, progress=Silent()),
    )  # fmt: skip
