"""The transformers backend with a tiny chat model: order, samples, prefixes, stop strings, streaming, limits."""

from pathlib import Path
from typing import Any

import pytest

from runner.backends import start, transformers
from runner.core.errors import ConfigError
from runner.core.specs import Backend, Model, Sampling, Template
from runner.core.types import Completion, Message
from tests.tiny import tiny_model

GREEDY = Sampling(max_new_tokens=12, temperature=0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Qwen3 that thinks, its weights scaled so that greedy choices are no ties."""
    import torch
    from transformers import AutoModelForCausalLM

    made = tiny_model(tmp_path_factory.mktemp("tiny"), "qwen3", "thinker")
    model = AutoModelForCausalLM.from_pretrained(made)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    model.save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def engine(folder: Path) -> Any:
    """The backend, chosen by name."""
    made = start(Backend(name="transformers"), Model(id=str(folder)), "modelscope")
    yield made
    made.close()


def ask(engine: Any, questions: list[str], sampling: Sampling = GREEDY, **template: Any) -> list[list[Completion]]:
    """Answers to plain questions."""
    layer = Template(**template)
    prompts = [engine.prompt([Message("user", text)], layer) for text in questions]
    found: list[list[Completion]] = engine.generate(prompts, sampling)
    return found


def test_answers_come_in_the_order_of_the_prompts(engine: Any) -> None:
    """Sorted by length inside, told as they finish, returned in order; the same as one by one."""
    questions = ["hello", "who are you? " * 9, "thank you", "the capital of France " * 4]
    prompts = [engine.prompt([Message("user", text)], Template()) for text in questions]
    told: dict[int, list[Completion]] = {}
    together = engine.generate(prompts, GREEDY, finished=told.__setitem__)
    assert together == [engine.generate([prompt], GREEDY)[0] for prompt in prompts]
    assert [told[place] for place in range(4)] == together
    for prompt, (answer,) in zip(prompts, together, strict=True):
        assert answer.prompt_tokens == len(prompt.ids)
        assert answer.finish_reason in ("stop", "length") and answer.completion_tokens == len(answer.token_ids)


def test_samples_differ_and_come_back_with_their_seed(engine: Any) -> None:
    """n answers a prompt, numbered, with log-probabilities; the same seed gives the same ones."""
    sampling = Sampling(max_new_tokens=8, temperature=1.0, n=3, logprobs=True)
    prompts = [engine.prompt([Message("user", text)], Template()) for text in ("hello", "who are you?")]
    first = engine.generate(prompts, sampling, seeds=[1, 2])
    again = engine.generate(prompts[::-1], sampling, seeds=[2, 1])[::-1]
    assert [[a.text for a in samples] for samples in first] == [[a.text for a in samples] for samples in again]
    assert [answer.sample for answer in first[0]] == [0, 1, 2]
    assert len({answer.text for answer in first[0]}) > 1
    assert all(len(answer.logprobs) == answer.completion_tokens for samples in first for answer in samples)


@pytest.mark.parametrize(
    "template", [{"thinking": "off"}, {"response_prefix": "<think>\n\n</think>\n\n"}], ids=["thinking off", "prefix"]
)
def test_no_thinking_by_template_or_prefix_is_the_same(engine: Any, template: dict[str, Any]) -> None:
    """Text and token counts hold the empty think block; the reasoning is empty."""
    (answer,) = ask(engine, ["hello"], **template)[0]
    assert answer.text.startswith("<think>\n\n</think>\n\n") and answer.reasoning == ""
    (plain,) = ask(engine, ["hello"])[0]
    assert answer.prompt_tokens == plain.prompt_tokens
    begun = len(engine.tokenizer("<think>\n\n</think>\n\n", add_special_tokens=False)["input_ids"])
    assert answer.mask == (0,) * begun + (1,) * (answer.completion_tokens - begun)


def test_a_stop_string_ends_the_answer(engine: Any) -> None:
    """It is no part of the text."""
    (whole,) = ask(engine, ["hello"], Sampling(max_new_tokens=12, temperature=0.0))[0]
    stop = whole.text[3:5]
    (cut,) = ask(engine, ["hello"], Sampling(max_new_tokens=12, temperature=0.0, stop=[stop]))[0]
    assert cut.text == whole.text[: whole.text.index(stop)] and cut.finish_reason == "stop"
    assert cut.completion_tokens < whole.completion_tokens


@pytest.mark.parametrize("template", [{}, {"thinking": "off"}, {"response_prefix": "Sure: "}])
def test_streamed_pieces_are_the_answer(engine: Any, template: dict[str, Any]) -> None:
    """Piece by piece the same text as at once, prefix included; the completion comes last."""
    layer = Template(**template)
    prompt = engine.prompt([Message("user", "hello")], layer)
    *pieces, completion = list(engine.stream(prompt, GREEDY))
    assert len(pieces) > 3 and "".join(pieces) == completion.text
    assert completion == engine.generate([prompt], GREEDY)[0][0]


def test_a_prompt_that_leaves_no_room_is_an_error_of_its_own(engine: Any) -> None:
    """The others are answered."""
    long, short = ask(engine, ["hello " * 5000, "hello"])
    assert long[0].finish_reason == "error" and "leaves no room" in str(long[0].error)
    assert short[0].finish_reason != "error"
    (only,) = engine.stream(engine.prompt([Message("user", "hello " * 5000)], Template()), GREEDY)
    assert only.finish_reason == "error"


def test_many_prompts_without_room_do_not_end_the_work(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole window of them: what comes after is answered all the same."""
    monkeypatch.setattr(transformers, "WINDOW", 2)
    made = ask(engine, ["hello " * 5000] * 3 + ["hello"] + ["hello " * 5000] * 2)
    assert [one.finish_reason == "error" for (one,) in made] == [True, True, True, False, True, True]


def test_unknown_engine_arguments_are_refused(folder: Path) -> None:
    """With their key."""
    with pytest.raises(ConfigError, match=r"backend.engine.gpu_memory_utilization: the transformers backend takes no"):
        start(Backend(name="transformers", engine={"gpu_memory_utilization": 0.9}), Model(id=str(folder)), "modelscope")


def test_an_adapter_answers_beside_its_base(folder: Path, tmp_path: Path) -> None:
    """Loaded by peft, not merged; it changes the answers, and its base is found by itself."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(folder), LoraConfig(target_modules="all-linear", init_lora_weights=False)
    )
    model.save_pretrained(tmp_path / "adapter")
    made = start(Backend(name="transformers"), Model(id=str(tmp_path / "adapter")), "modelscope")
    ids = made.tokenizer("hello", add_special_tokens=False, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        assert torch.allclose(made.model(ids).logits, model.eval()(ids).logits, atol=1e-5)
    prompt = made.prompt([Message("user", "hello")], Template())
    base = start(Backend(name="transformers"), Model(id=str(folder)), "modelscope")
    assert made.generate([prompt], GREEDY) != base.generate([prompt], GREEDY)
