"""GKD with its teacher behind vLLM's own server, and evaluation by vLLM beside the training, on a GPU."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.gpu.serving import serving
from tests.gpu.small import small_qwen3
from tests.gpu.test_grpo import run, trained, write_rows

pytestmark = pytest.mark.gpu
pytest.importorskip("vllm")
pytest.importorskip("openai")

RECIPE = """\
# Three updates of GKD.
# @package _global_
name: {name}
model: {{id: "{student}"}}
mix: {{datasets: [rows.jsonl], validation: {{rows: 4}}}}
train_type: {{kind: full}}
optim: {{lr: 1e-3, schedule: constant}}
sampling: {{max_new_tokens: 32}}
backend: {{name: transformers}}
eval: {{every: 2}}
log: {{every: 1}}
max_updates: 3
stages:
  train: {{kind: gkd, prompts_per_update: 4, lmbda: 0.0, {teacher}}}
"""


def made(folder: Path, seed: int) -> Path:
    """A small model whose words differ in likelihood by much more than bfloat16 rounds."""
    small_qwen3(folder, seed, max_position_embeddings=2048, initializer_range=0.2)
    return folder


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A model, and the address of the server that has it."""
    folder = made(tmp_path_factory.mktemp("teacher"), 7)
    words = ["--served-model-name", "master", "--max-logprobs", "512"]
    with serving(folder, folder, *words) as address:
        yield folder, f"{address}/v1"


def learned(folder: Path, name: str, student: Path, said: str) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl of a distillation."""
    write_rows(folder)
    (folder / "recipes").mkdir(exist_ok=True)
    (folder / f"recipes/{name}.yaml").write_text(RECIPE.format(name=name, student=student, teacher=said))
    return run(folder, name)


def test_all_words_of_the_server_teach_as_the_teacher_beside(tmp_path: Path, teacher: tuple[Path, str]) -> None:
    """Losses near each other as bfloat16 lets them be; fewer words tell less, never more."""
    folder, address = teacher
    student = made(tmp_path / "student", 3)
    server = f"teacher: master, teacher_server: {{base_url: '{address}', tokenizer: '{folder}', top_k: "
    here = learned(tmp_path, "here", student, f"teacher: '{folder}'")
    every = learned(tmp_path, "every", student, server + "512}")
    few = learned(tmp_path, "few", student, server + "5}")
    for one, other, less in zip(here, every, few, strict=True):
        name = "loss" if "loss" in one else "eval_loss"
        assert other[name] == pytest.approx(one[name], rel=0.03)
        assert less[name] < other[name] * 1.01
    assert every[0]["teacher_tail"] < 0.02 < few[0]["teacher_tail"]


def test_vllm_beside_the_training_answers_evaluations(tmp_path: Path) -> None:
    """It sleeps and wakes as for rollouts; the training is what it is without them, as far as figures tell."""
    lines: dict[str, list[dict[str, Any]]] = {}
    model = made(tmp_path / "model", 3)
    for name in ("with", "without"):
        place = tmp_path / name
        place.mkdir()
        lines[name] = trained(place, model, kind="full", lr=1e-4, sleep=1, offload="true", aside=name == "with")
    told = [line for line in lines["with"] if "eval_reward" in line]
    assert [line["update"] for line in told] == [2, 3] and all(line["eval_answers"] == 4 for line in told)
    answers = (tmp_path / "with/outputs/smoke/train/evaluations.jsonl").read_bytes().split(b"\n")[:-1]
    assert [json.loads(one)["update"] for one in answers] == [2] * 4 + [3] * 4
    for one, other in zip((line for line in lines["with"] if "loss" in line), lines["without"], strict=True):
        assert one["sampling_mismatch"] < 0.1 and one["reward"] == pytest.approx(other["reward"], rel=0.3)
