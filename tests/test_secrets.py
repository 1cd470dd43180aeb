"""Tokens and keys of the environment: in no file that a run writes, and in no sentence, whatever a hub answers."""

import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.local_server import LocalServer
from tests.user import User, tiny_folder, user_at_work  # noqa: F401 - fixtures

ROOT = Path(__file__).parents[1]
SECRETS = {name: f"very-secret-{name.lower()}" for name in (
    "HF_TOKEN", "MODELSCOPE_API_TOKEN", "OPENAI_API_KEY", "WANDB_API_KEY",
)}  # fmt: skip


@pytest.fixture
def hub() -> Iterator[str]:
    """The address of a hub that refuses everything and says back what it was sent."""

    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            said = f"no: {self.headers.get('Authorization')} {self.headers.get('Cookie')}".encode()
            self.send_response(401)
            self.send_header("Content-Length", str(len(said)))
            self.send_header("X-Error-Message", said.decode())
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(said)

        do_HEAD = do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = LocalServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def run(user: User, *words: str) -> "subprocess.CompletedProcess[str]":
    """The command in processes of its own, with secrets in their environment."""
    known = {name: value for name, value in os.environ.items() if name != "RUNNER_PARENT_FD"}
    known["PYTHONPATH"] = f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"
    command = [sys.executable, "-m", "runner", *words]
    return subprocess.run(command, cwd=user.root, env={**known, **SECRETS}, capture_output=True, text=True, check=False)


def secrets_in(*texts: str | bytes) -> set[str]:
    """The variables whose value is told."""
    joined = b"\n".join(text if isinstance(text, bytes) else text.encode() for text in texts)
    return {name for name, value in SECRETS.items() if value.encode() in joined}


def test_no_file_of_a_run_holds_a_secret(user: User) -> None:
    """Training and merging, looked through to the last file."""
    user.write("recipes/both.yaml", (user.root / "recipes" / "mine.yaml").read_text().replace(
        "stages: {train: {kind: sft}}", 'stages: {merge: {kind: merge, model: "stage:train"}, train: {kind: sft}}'
    ))  # fmt: skip
    done = run(user, "recipe=both")
    assert done.returncode == 0, done.stderr
    files = [file for file in user.root.rglob("*") if file.is_file()]
    names = {file.name for file in files}
    assert {"provenance.json", "config.yaml", "log.txt", "job.yaml", "metrics.jsonl", "hydra.yaml"} <= names
    assert secrets_in(done.stdout, done.stderr, *(file.read_bytes() for file in files)) == set()


def test_a_failing_stage_tells_no_secret(user: User) -> None:
    """A reward that raises with its environment at hand is shown as it raised, and the environment is not."""
    user.write("plugins/rewards/mine.py", "import os\ndef mine(completions): raise KeyError(len(os.environ))\n")
    words = ["stages.ask.kind=evaluate", "stages.ask.prompts=[rows.jsonl#2]", "stages.ask.reward={mine:{}}"]
    done = run(user, "recipe=asked", *words)
    assert done.returncode == 1 and "reward mine: failed" in done.stderr
    files = [file.read_bytes() for file in (user.root / "outputs").rglob("*") if file.is_file()]
    assert secrets_in(done.stdout, done.stderr, *files) == set()


@pytest.mark.parametrize("words", ["model=org/private", "mix.datasets=[hf::org/private]"], ids=["model", "data"])
def test_a_hub_that_refuses_is_told_without_the_token(
    user: User, hub: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub's answer quotes the token; the sentence does not."""
    for name, value in {**SECRETS, "HF_ENDPOINT": hub}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub)
    code, told = user.tell("recipe=mine", "hub=huggingface", words)
    assert code == 2 and "huggingface does not give" in told and "org/private" in told, told
    files = [file.read_bytes() for file in (user.root / "outputs").rglob("*") if file.is_file()]
    assert secrets_in(told, *files) == set()


def test_a_password_in_a_hubs_address_is_not_told(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mirrors are sometimes given with one."""
    monkeypatch.setenv("HF_ENDPOINT", f"http://me:{SECRETS['HF_TOKEN']}@127.0.0.1:9")
    code, told = user.tell("recipe=mine", "hub=huggingface", "model=org/private")
    assert code == 2 and "huggingface does not answer" in told, told
    assert secrets_in(told) == set()
