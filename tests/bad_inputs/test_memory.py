"""Memory that runs out: one sentence with the way out. The limit is the system's own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny import tiny_model

ROOT = Path(__file__).parents[2]
LIMITED = """
import resource, sys
import torch, transformers.models.llama.modeling_llama
from runner import worker
torch.set_num_threads(1)
room = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() + int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (room, room))
sys.exit(worker.main([sys.argv[2]]))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no such limits here")
def test_answers_that_need_more_memory_than_there_is(tmp_path: Path) -> None:
    """The same stage, with room for a model and none for a long prompt."""
    tiny_model(tmp_path / "tiny")
    rows = [{"id": "long", "query": "hello " * 3500}, {"id": "short", "query": "hello"}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["model=tiny", "model.attention=eager", "stages.infer.prompts=[rows.jsonl]", "sampling.max_new_tokens=2"]
    words += ["backend=transformers", "backend.batch_tokens=100", "output_dir=out"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def run(*command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200
        )

    done = run("-m", "runner", "+recipe=infer", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("completions.jsonl", "progress.json", "artifact.json"):
        (tmp_path / "out/infer" / name).unlink()
    short = run("-c", LIMITED, str(300 << 20), str(tmp_path / "out/infer"))
    told = short.stdout + short.stderr
    assert short.returncode == 1 and "Traceback" not in told, told
    assert "backend: memory ran out while answering 100 tokens at once (another " in told
    assert "Take a lower backend.batch_tokens. What was answered stays" in told
