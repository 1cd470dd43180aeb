"""The recipes of reinforcement learning in miniature: all their own keys, on a tiny model, few and short answers."""

import json
import sys
import types
from pathlib import Path

import pytest

from tests.conftest import Project
from tests.user import User, tiny_folder, user_at_work  # noqa: F401 - fixtures

SMALL = [
    "model.id=tiny", "mix.datasets=[rows.jsonl]", "model.dtype=auto", "backend=transformers", "parallelism=single",
    "parallelism.gpus=1", "sampling.max_new_tokens=6", "max_length=200", "max_updates=2", "optim.lr=1e-3",
    "log.every=1",
]  # fmt: skip
REWARD = '''
def {name}(completions: list[str], *, solution: list[str], {params}) -> list[float | None]:
    """Stands for the shipped reward of that name, which a model with random weights never earns."""
    return [float(len(set(text)) % 5) for text in completions]
'''
ENGINE = ["~backend.engine.max_model_len", "~backend.engine.gpu_memory_utilization"]
MORE: dict[str, list[str]] = {  # and cut-off answers learn, as there are no others
    "qwen3_dapo": ENGINE,
    "qwen3_grpo": ENGINE,
    "grpo_gsm8k": [],
    "qwen3_ppo": ENGINE,
    "qwen3_gkd": [*ENGINE, "stages.train.teacher=tiny"],
}


@pytest.mark.parametrize("name", MORE)
def test_it_runs_in_miniature(user: User, name: str) -> None:
    """To the end, with every answer written down; the second command reuses all."""
    said = {"role": "assistant", "content": "A number."}
    talks = [
        {"messages": [{"role": "user", "content": f"What is {n} + {n}?"}, said], "solution": str(2 * n)}
        for n in range(9)
    ]
    user.write("rows.jsonl", "".join(json.dumps(talk) + "\n" for talk in talks))
    for reward, params in {
        "accuracy": "seconds: float = 5.0",
        "soft_overlong": "max_length: int = 0, cache: int = 0",
    }.items():
        user.write(f"plugins/rewards/{reward}.py", REWARD.format(name=reward, params=params))
    words = [f"recipe={name}", *SMALL, *MORE[name], "stages.train.num_generations=4"]
    if name not in ("qwen3_gkd", "qwen3_ppo"):
        words.append("stages.train.mask_truncated_completions=false")
    if name == "grpo_gsm8k":
        words.append("stages.before.prompts=[rows.jsonl]")
    code, told = user.tell(*words)
    assert code == 0, told
    folder = user.root / f"outputs/{name}/train"
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["update"] for line in lines] == [1, 2] and (folder / "artifact.json").is_file()
    if name == "qwen3_gkd":  # the student is its own teacher here
        assert lines[0]["loss"] == pytest.approx(0.0, abs=1e-6)
    else:
        assert lines[0]["reward_std"] > 0 and lines[0]["grad_norm"] > 0
    assert user.tell(*words)[0] == 0


@pytest.mark.parametrize(
    ("name", "tokens", "beside"),
    [
        ("qwen3_grpo", 4096 + 4096, "the reference, the model as it starts: 15.3 GiB more on each device"),
        ("qwen3_gkd", 2048 + 2048, "the teacher: 15.3 GiB more on each device"),
        ("qwen3_ppo", 512 + 1024, "the reference, the model as it starts: 1.1 GiB more on each device"),
        ("qwen3_dapo", 2048 + 8192, ""),
        ("grpo_gsm8k", 512 + 1024, ""),
    ],
)
def test_the_plan_counts_answers_and_the_models_beside(project: Project, name: str, tokens: int, beside: str) -> None:
    """The memory was that of a prompt alone, and of a student without its teacher."""
    _, told, _ = project.call("plan", f"recipe={name}")
    assert f"GiB a device with {tokens} tokens" in told and "0.125 on each" not in told
    assert (f"beside   {beside}" in told) if beside else ("beside " not in told)


def test_vllm_of_a_release_that_is_not_known_is_refused(
    user: User, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Found by its metadata, when planning, without importing it."""
    import importlib.machinery
    import importlib.metadata

    made = types.ModuleType("vllm")
    made.__spec__ = importlib.machinery.ModuleSpec("vllm", None)
    monkeypatch.setitem(sys.modules, "vllm", made)
    version = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.12.1" if name == "vllm" else version(name))
    code, told = user.tell("plan", "recipe=qwen3_grpo", "model.id=tiny", "mix.datasets=[rows.jsonl]")
    assert code == 2 and "vLLM 0.12.1 is not a release whose weights can be replaced here" in told
