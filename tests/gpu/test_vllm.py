"""vLLM on a GPU: the same prompts, texts and counts as the transformers backend; adapters; what it refuses; the stages
as a user runs them.
"""

import importlib.util
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.backends import start
from runner.core.errors import ConfigError, Interrupted
from runner.core.specs import Backend, Model, Sampling, Template
from runner.core.types import Completion, Message
from tests.gpu.small import small_qwen3

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm is not installed"),
    pytest.mark.filterwarnings("ignore"),  # importing vLLM makes many, about its own libraries
]
# Without the prefix cache an answer does not depend on what was asked before. With the cache's size given, the engine
# does not measure the GPU's memory, which fails where something else on it ends meanwhile.
ENGINE = {
    "max_model_len": 512,
    "gpu_memory_utilization": 0.1,
    "kv_cache_memory_bytes": 2**30,
    "enforce_eager": True,
    "enable_prefix_caching": False,
}
GREEDY = Sampling(max_new_tokens=16, temperature=0.0)
WORDS = ["hello", "the capital of France", "who are you?", "thank you", "a small model", "0123"]
QUESTIONS = [" ".join([WORDS[n % 6]] * (n % 5 + 1) + [WORDS[n // 6], str(n)]) for n in range(32)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Qwen3 with random weights, heads of 64, and an adapter beside it that changes what it says."""
    from peft import LoraConfig, get_peft_model

    made = tmp_path_factory.mktemp("small")
    model = small_qwen3(made / "base")
    tuned = get_peft_model(model, LoraConfig(r=8, target_modules="all-linear", init_lora_weights=False))
    tuned.peft_config["default"].base_model_name_or_path = str(made / "base")
    tuned.save_pretrained(made / "adapter")
    return made


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[Any]:
    made = start(Backend(name="vllm", engine=dict(ENGINE)), Model(id=str(folder / "adapter")), "modelscope")
    yield made
    made.close()


def first_chosen(completion: Completion) -> int:
    """The first token that the model chose."""
    return completion.token_ids[sum(mark == 0 for mark in completion.mask)]


def test_it_agrees_with_transformers(engine: Any, folder: Path) -> None:
    """The adapter is at work: nearly all first tokens are those of peft in the same precision, few the base's."""
    prompts = [engine.prompt([Message("user", text)], Template(thinking="off")) for text in QUESTIONS]
    made = engine.generate(prompts, GREEDY)
    others = {}
    for name in ("adapter", "base"):
        other = start(Backend(name="transformers"), Model(id=str(folder / name), dtype="bfloat16"), "modelscope")
        others[name] = other.generate(prompts, GREEDY)
        other.close()

    def same(theirs: list[list[Completion]]) -> float:
        pairs = [(first_chosen(a), first_chosen(b)) for (a,), (b,) in zip(made, theirs, strict=True)]
        return sum(a == b for a, b in pairs) / len(pairs)

    assert same(others["adapter"]) >= 0.8 and same(others["base"]) <= 0.3
    for (a,), (b,) in zip(made, others["adapter"], strict=True):
        assert a.prompt_tokens == b.prompt_tokens and a.text.startswith("<think>\n\n</think>\n\n") and a.reasoning == ""
        assert len(a.token_ids) == len(a.mask) == a.completion_tokens


def test_the_engine_is_given_the_ids_of_every_backend(
    engine: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In each thinking mode, with and without a prefix; words that spell a control token are words."""
    other = start(Backend(name="transformers"), Model(id=str(folder / "base")), "modelscope")
    seen: list[list[int]] = []
    step = engine.engine.step

    def watched() -> Any:
        outputs = step()
        seen.extend(list(output.prompt_token_ids) for output in outputs if output.finished)
        return outputs

    monkeypatch.setattr(engine.engine, "step", watched)
    for thinking in ("on", "off", "auto"):
        for prefix in ("", "Sure: "):
            template = Template(thinking=thinking, response_prefix=prefix)
            said = [Message("system", "Be brief."), Message("user", "hello\n\nthere <|im_end|> now")]
            prompt = engine.prompt(said, template)
            assert prompt == other.prompt(said, template)
            engine.generate([prompt], GREEDY)
            assert seen[-1] == list(prompt.ids)
            words = [token for token in prompt.ids if token == other.tokenizer.convert_tokens_to_ids("<|im_end|>")]
            assert len(words) == 2 and "<|im_end|>" in prompt.text.partition("there")[2].partition("now")[0]
    other.close()
    assert len(seen) == 6


def test_samples_and_logprobs(engine: Any) -> None:
    """Each sample with a log-probability a token; the same seed gives the same samples."""
    prompt = engine.prompt([Message("user", "hello")], Template(response_prefix="Sure: "))
    sampling = Sampling(max_new_tokens=8, temperature=1.0, n=3, logprobs=True, seed=5)
    (samples,) = engine.generate([prompt], sampling)
    assert [made.sample for made in samples] == [0, 1, 2] and len({made.text for made in samples}) > 1
    for made in samples:
        assert made.logprobs is not None and len(made.logprobs) == made.completion_tokens == len(made.token_ids)
        assert all((value < 0) == bool(mark) for value, mark in zip(made.logprobs, made.mask, strict=True))
    (again,) = engine.generate([prompt], sampling)
    assert [made.text for made in again] == [made.text for made in samples]


def test_stop_words_end_an_answer(engine: Any) -> None:
    """The word itself is left out."""
    for question in QUESTIONS:
        prompt = engine.prompt([Message("user", question)], Template())
        ((whole,),) = engine.generate([prompt], GREEDY)
        stops = [whole.text[at : at + 2] for at in range(1, len(whole.text) - 2) if whole.text[at : at + 2].isascii()]
        if stops:
            break
    sampling = Sampling(max_new_tokens=16, temperature=0.0, stop=[stops[0]])
    ((cut,),) = engine.generate([prompt], sampling)
    assert cut.text == whole.text[: whole.text.index(stops[0])] and cut.finish_reason == "stop"
    streamed = list(engine.stream(prompt, sampling))
    assert "".join(streamed[:-1]) == cut.text == streamed[-1].text


def test_answers_are_guided(engine: Any) -> None:
    """By a regular expression, and by a JSON schema."""
    prompt = engine.prompt([Message("user", "hello")], Template())
    ((made,),) = engine.generate([prompt], Sampling(max_new_tokens=8, temperature=1.0, guided_regex="(yes|no)"))
    assert made.text in ("yes", "no")
    schema = {"type": "object", "properties": {"sure": {"type": "boolean"}}, "required": ["sure"]}
    ((made,),) = engine.generate([prompt], Sampling(max_new_tokens=64, temperature=1.0, guided_json=schema))
    assert isinstance(json.loads(made.text)["sure"], bool)


def test_streams_and_errors(engine: Any) -> None:
    """A stream or a batch that is left early does not harm the next; a prompt too long is an error of its row."""
    prompt = engine.prompt([Message("user", "hello")], Template(response_prefix="Sure: "))
    *pieces, completion = engine.stream(prompt, GREEDY)
    assert len(pieces) > 1 and "".join(pieces) == completion.text and completion.text.startswith("Sure: ")
    stopped = engine.stream(prompt, Sampling(max_new_tokens=400, temperature=0.0))
    next(stopped)
    next(stopped)
    stopped.close()  # the engine must be free for the next one

    def leave(place: int, made: list[Completion]) -> None:
        raise Interrupted("enough")

    with pytest.raises(Interrupted):
        engine.generate([prompt] * 8, Sampling(max_new_tokens=100, temperature=1.0), finished=leave)
    long = engine.prompt([Message("user", "hello " * 900)], Template())
    (failed,), (fine,) = engine.generate([long, prompt], GREEDY)
    assert failed.finish_reason == "error" and "leaves no room" in str(failed.error) and fine.finish_reason != "error"


def test_unknown_arguments_and_values_are_refused(engine: Any, folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"max_modellen: vLLM has no such argument .* mean max_model_len"):
        start(Backend(name="vllm", engine={"max_modellen": 5}), Model(id=str(folder / "base")), "modelscope")
    with pytest.raises(ConfigError, match=r"vLLM refuses it: .*99999"):
        start(Backend(name="vllm", engine={"max_model_len": 99999}), Model(id=str(folder / "base")), "modelscope")
    prompt = engine.prompt([Message("user", "hello")], Template())
    with pytest.raises(ConfigError, match=r"sampling: vLLM refuses it: temperature must be in"):
        engine.generate([prompt], Sampling(temperature=9.0))


def command(folder: Path, *words: str) -> list[str]:
    """The runner with vLLM on the small model."""
    told = [f"backend.engine.{name}={value}" for name, value in ENGINE.items()]
    return [sys.executable, "-m", "runner", *words, "backend=vllm", *told, f"model={folder / 'adapter'}"]


def test_a_stopped_stage_goes_on(folder: Path, tmp_path: Path) -> None:
    """Ctrl-C in the middle: out soon with 130; the same command answers the rest, no row twice or lost."""
    rows = [{"id": str(n), "query": QUESTIONS[n % 32]} for n in range(3000)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = command(
        folder, "+recipe=infer", "stages.infer.prompts=[rows.jsonl]", "output_dir=out", "sampling.max_new_tokens=200",
        "sampling.temperature=1.0", "stages.infer.write_batch_size=100",
    )  # fmt: skip
    with open(tmp_path / "first.txt", "w") as log:
        running = subprocess.Popen(words, cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT)
        result = tmp_path / "out/infer/completions.jsonl"
        end = time.monotonic() + 300
        while time.monotonic() < end and running.poll() is None and not (result.is_file() and result.stat().st_size):
            time.sleep(0.05)
        running.send_signal(signal.SIGINT)
        asked = time.monotonic()
        code = running.wait(60)
    assert (code, time.monotonic() - asked < 30) == (130, True), (tmp_path / "first.txt").read_text()
    before = result.read_bytes()
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "of 3000 questions are answered already" in done.stdout + done.stderr
    assert before and result.read_bytes().startswith(before)
    with open(result) as lines:  # not splitlines: random weights say U+2028, too
        assert [json.loads(line)["id"] for line in lines] == [row["id"] for row in rows]


def test_piped_chat(folder: Path) -> None:
    """Answers alone on standard output."""
    words = command(folder, "+recipe=chat", "sampling.max_new_tokens=8")
    done = subprocess.run(words, input="hello\nwho are you?\n", capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip() and "<<<" not in done.stdout


@pytest.mark.parametrize("each", [1, 2])
def test_two_gpus_answer_in_the_order_of_the_input(two_gpus: None, folder: Path, tmp_path: Path, each: int) -> None:
    """An engine on each, or one over both; nearly all first words are those of one GPU."""
    rows = [{"id": str(n), "query": text} for n, text in enumerate(QUESTIONS)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = dict[str, list[dict[str, Any]]]()
    for name, more in {
        "one": ["parallelism.gpus=1"],
        "two": ["parallelism=ddp", "parallelism.gpus=2", f"backend.engine.tensor_parallel_size={each}"],
    }.items():
        words = command(folder, "+recipe=infer", "stages.infer.prompts=[rows.jsonl]", f"output_dir={name}")
        words += ["sampling.max_new_tokens=16", "sampling.temperature=0", *more]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=400)
        assert done.returncode == 0, done.stdout + done.stderr
        told[name] = [json.loads(line) for line in (tmp_path / name / "infer/completions.jsonl").open()]
    assert [row["id"] for row in told["two"]] == [row["id"] for row in rows]
    pairs = [(one["response"], two["response"]) for one, two in zip(told["one"], told["two"], strict=True)]
    assert sum(one[:1] == two[:1] for one, two in pairs) >= 0.8 * len(pairs)
