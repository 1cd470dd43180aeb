"""GRPO on a GPU with vLLM beside the training: it sleeps, wakes, and has the new weights after each update.

GRPO_MODEL names a folder with a Qwen3 model (random weights do); without it a small one is made.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.gpu.serving import serving
from tests.gpu.small import small_qwen3

pytestmark = pytest.mark.gpu
pytest.importorskip("vllm")

REWARD = '''
def longer(completions: list[str]) -> list[float | None]:
    """Differs from answer to answer."""
    return [float(sum(map(ord, text)) % 97) for text in completions]
'''
ASIDE = ", validation: {datasets: [aside.jsonl]}"
RECIPE = """\
# Three updates of GRPO.
# @package _global_
name: smoke
model: {{id: "{model}"}}
mix: {{datasets: [rows.jsonl]{aside}}}
train_type: {{kind: {kind}}}
optim: {{lr: {lr}, schedule: constant, weight_decay: 0.0}}
sampling: {{max_new_tokens: 64}}
backend: {{name: vllm, engine: {{gpu_memory_utilization: 0.1, kv_cache_memory_bytes: 1073741824, enforce_eager: true}}}}
reward: {{longer: {{}}}}
log: {{every: 1}}
max_updates: 3
stages:
  train:
    kind: grpo
    prompts_per_update: 4
    num_generations: 8
    correction: token_truncate
    beta: 0.001
    sleep_level: {sleep}
    offload_model: {offload}
    offload_optimizer: {offload}
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model that the environment names, or a small one with heads of 64."""
    if "GRPO_MODEL" in os.environ:
        return Path(os.environ["GRPO_MODEL"])
    made = tmp_path_factory.mktemp("small")
    small_qwen3(made)
    return made


def run(folder: Path, recipe: str, *words: str, **variables: str) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl of the stage `train`. variables: of the environment."""
    done = subprocess.run(
        [sys.executable, "-m", "runner", f"+recipe={recipe}", *words], cwd=folder, capture_output=True, text=True,
        timeout=560, env={**os.environ, **variables},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
    lines = (folder / f"outputs/{recipe}/train/metrics.jsonl").read_text().splitlines()
    print(*lines, sep="\n")
    return [json.loads(line) for line in lines]


def write_rows(folder: Path) -> None:
    """Questions with answers, which a distillation may take, and solutions."""
    rows = []
    for n in range(16):
        said = [{"role": "user", "content": f"What is {n} + {n}?"}, {"role": "assistant", "content": f"It is {2 * n}."}]
        rows.append({"messages": said, "solution": str(2 * n)})
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def trained(
    folder: Path, model: Path, *words: str, aside: bool = False, visible: str | None = None, **keys: Any
) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl after three updates. aside: whether four more questions are kept for evaluation.
    visible: the GPUs that it may use, where not all.
    """
    write_rows(folder)
    (folder / "plugins/rewards").mkdir(parents=True)
    (folder / "plugins/rewards/longer.py").write_text(REWARD)
    (folder / "recipes").mkdir()
    (folder / "recipes/smoke.yaml").write_text(RECIPE.format(model=model, aside=ASIDE * aside, **keys))
    rows = [{"messages": [{"role": "user", "content": f"What is {n} less 1?"}]} for n in range(4)]
    (folder / "aside.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    seen = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    return run(folder, "smoke", *["eval.every=2"] * aside, *words, **seen)


def assert_weights_of_the_moment(folder: Path, lines: list[dict[str, Any]]) -> None:
    """The steps move the model much farther from its start (which the divergence from the reference tells) than the
    engine is from the model (mean difference of log-probabilities): an engine with old weights could not be so near.
    """
    assert [line["update"] for line in lines] == [1, 2, 3]
    gaps = [line["sampling_mismatch"] for line in lines]
    moved = [(2 * line["rollout_kl"]) ** 0.5 for line in lines]  # nats a token, where the divergence is small
    assert gaps[0] < 0.05 and max(gaps[1:]) < max(0.05, 3 * gaps[0]), gaps
    assert moved[0] < 0.01 and moved[2] > 3 * gaps[2], (moved, gaps)
    assert all(line["grad_norm"] > 0 and line["seconds_generate"] > 0 for line in lines)
    answers = (folder / "outputs/smoke/train/completions.jsonl").read_bytes().split(b"\n")[:-1]
    assert len(answers) == 3 * 4 * 8


@pytest.mark.parametrize(
    ("kind", "lr", "sleep", "offload"),
    [("full", 1e-3, 1, "true"), ("full", 1e-3, 2, "false"), ("full", 1e-3, 0, "false"), ("lora", 1e-2, 1, "true")],
)
def test_the_engine_has_the_weights_of_the_moment(
    tmp_path: Path, model: Path, kind: str, lr: float, sleep: int, offload: str
) -> None:
    lines = trained(tmp_path, model, kind=kind, lr=lr, sleep=sleep, offload=offload)
    assert_weights_of_the_moment(tmp_path, lines)


@pytest.mark.parametrize("preset", ["ddp", "zero2", "zero3", "fsdp2"])
def test_two_devices_have_an_engine_each(two_gpus: None, tmp_path: Path, model: Path, preset: str) -> None:
    """Of whole weights, also where the training's are split."""
    words = [f"parallelism={preset}", "parallelism.gpus=2"]
    lines = trained(tmp_path, model, *words, kind="full", lr=1e-3, sleep=1, offload="false")
    assert_weights_of_the_moment(tmp_path, lines)


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_a_server_on_another_gpu_has_the_weights_of_the_moment(
    two_gpus: None, tmp_path: Path, model: Path, kind: str
) -> None:
    """Sent over NCCL."""
    pytest.importorskip("trl")
    words = ["--weight-transfer-config", '{"backend": "nccl"}', "--logprobs-mode", "processed_logprobs"]
    with serving(tmp_path, model, *words, visible="1") as address:
        place = tmp_path / "training"
        place.mkdir()
        server = f"stages.train.server={address}"
        keys = {"kind": kind, "lr": 1e-3 if kind == "full" else 1e-2, "sleep": 0, "offload": "false"}
        lines = trained(place, model, server, "backend=auto", visible="0", **keys)
    assert_weights_of_the_moment(place, lines)


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ("qwen3_grpo", ["sampling.max_new_tokens=128", "max_length=512", "backend.engine.max_model_len=1024"]),
        ("qwen3_ppo", ["sampling.max_new_tokens=64", "stages.train.prompts_per_update=8"]),
        ("qwen3_gkd", ["sampling.max_new_tokens=64", "stages.train.prompts_per_update=8"]),
    ],
)
def test_recipes_run_shortened(tmp_path: Path, model: Path, recipe: str, words: list[str]) -> None:
    """Their own keys, two updates, one GPU; the rewards of random weights may all be 0, which is no failure."""
    write_rows(tmp_path)
    more = ["mix.datasets=[rows.jsonl]", "parallelism=single", "parallelism.gpus=1", "max_updates=2", "log.every=1"]
    if recipe == "qwen3_gkd":
        more.append(f"stages.train.teacher={model}")
    if recipe != "qwen3_gkd":  # without it the engine measures the GPU, which other programs on it upset
        more.append("backend.engine.kv_cache_memory_bytes=1073741824")
    lines = run(tmp_path, recipe, f"model.id={model}", *more, *words)
    assert [line["update"] for line in lines] == [1, 2]
    assert (tmp_path / f"outputs/{recipe}/train/artifact.json").is_file()
