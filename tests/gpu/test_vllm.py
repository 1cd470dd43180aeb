"""vLLM on a GPU: the same prompts, texts and counts as the transformers backend; adapters; what it refuses."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.backends import start
from runner.core.errors import ConfigError
from runner.core.specs import Backend, Model, Sampling, Template
from runner.core.types import Completion, Message
from tests.tiny import tiny_tokenizer

pytestmark = pytest.mark.gpu
pytest.importorskip("vllm")
ENGINE = {"max_model_len": 512, "gpu_memory_utilization": 0.3, "enforce_eager": True}
GREEDY = Sampling(max_new_tokens=16, temperature=0.0)
QUESTIONS = ["hello", "who are you? " * 9, "thank you", "the capital of France " * 4]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Qwen3 with random weights, heads of 64, and an adapter beside it that changes what it says."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import Qwen3Config, Qwen3ForCausalLM

    made, tokenizer = tmp_path_factory.mktemp("small"), tiny_tokenizer("thinker")
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=512, hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=64, max_position_embeddings=4096, tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, dtype="bfloat16",
    )  # fmt: skip
    model = Qwen3ForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(made / "base")
    tokenizer.save_pretrained(made / "base")
    tuned = get_peft_model(model, LoraConfig(r=8, target_modules="all-linear", init_lora_weights=False))
    tuned.peft_config["default"].base_model_name_or_path = str(made / "base")
    tuned.save_pretrained(made / "adapter")
    return made


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[Any]:
    made = start(Backend(name="vllm", engine=dict(ENGINE)), Model(id=str(folder / "adapter")), "modelscope")
    yield made
    made.close()


def test_it_agrees_with_transformers(engine: Any, folder: Path) -> None:
    """The adapter is at work: nearly all first tokens are those of peft in the same precision, few the base's."""
    prompts = [engine.prompt([Message("user", text)], Template(thinking="off")) for text in QUESTIONS * 4]
    made = engine.generate(prompts, GREEDY)
    firsts = {}
    for name in ("adapter", "base"):
        other = start(Backend(name="transformers"), Model(id=str(folder / name), dtype="bfloat16"), "modelscope")
        firsts[name] = other.generate(prompts, GREEDY)
        other.close()

    def same(theirs: list[list[Completion]]) -> float:
        pairs = [
            (a.token_ids[sum(m == 0 for m in a.mask)], b.token_ids[sum(m == 0 for m in b.mask)])
            for (a,), (b,) in zip(made, theirs, strict=True)
        ]
        return sum(a == b for a, b in pairs) / len(pairs)

    assert same(firsts["adapter"]) >= 0.9 > same(firsts["base"])
    for (a,), (b,) in zip(made, firsts["adapter"], strict=True):
        assert a.prompt_tokens == b.prompt_tokens and a.text.startswith("<think>\n\n</think>\n\n") and a.reasoning == ""
        assert len(a.token_ids) == len(a.mask) == a.completion_tokens


def test_samples_logprobs_stops_and_guides(engine: Any) -> None:
    prompt = engine.prompt([Message("user", "hello")], Template())
    (samples,) = engine.generate([prompt], Sampling(max_new_tokens=8, temperature=1.0, n=3, logprobs=True))
    assert [made.sample for made in samples] == [0, 1, 2] and len({made.text for made in samples}) > 1
    assert all(made.logprobs is not None and len(made.logprobs) == made.completion_tokens for made in samples)
    ((whole,),) = engine.generate([prompt], GREEDY)
    stop = whole.text[3:5]
    ((cut,),) = engine.generate([prompt], Sampling(max_new_tokens=16, temperature=0.0, stop=[stop]))
    assert cut.text == whole.text[: whole.text.index(stop)] and cut.finish_reason == "stop"
    ((guided,),) = engine.generate([prompt], Sampling(max_new_tokens=8, guided_regex="(yes|no)"))
    assert guided.text in ("yes", "no")


def test_streams_and_errors(engine: Any) -> None:
    prompt = engine.prompt([Message("user", "hello")], Template(response_prefix="Sure: "))
    *pieces, completion = engine.stream(prompt, GREEDY, "Sure: ")
    assert len(pieces) > 3 and "".join(pieces) == completion.text and completion.text.startswith("Sure: ")
    stopped = engine.stream(prompt, Sampling(max_new_tokens=400, temperature=0.0), "Sure: ")
    next(stopped)
    next(stopped)
    stopped.close()  # the engine must be free for the next one
    long = engine.prompt([Message("user", "hello " * 900)], Template())
    (failed,), (fine,) = engine.generate([long, prompt], GREEDY)
    assert failed.finish_reason == "error" and "leaves no room" in str(failed.error) and fine.finish_reason != "error"


def test_unknown_arguments_are_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"max_modellen: vLLM has no such argument .* mean max_model_len"):
        start(Backend(name="vllm", engine={"max_modellen": 5}), Model(id=str(folder / "base")), "modelscope")
