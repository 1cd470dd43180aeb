"""Datasets from both hubs, by their own libraries, off a small server of this test that speaks as the hubs do."""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.local_server import LocalServer

ROOT = Path(__file__).resolve().parent.parent.parent
FILES = {
    "train.jsonl": b'{"query": "q", "response": "a"}\n' * 3,
    "test.jsonl": b'{"query": "other", "response": "b"}\n',
    "README.md": b"---\ntags: []\n---\n# Rows\n",
    "rows.py": b"raise SystemExit('code of a dataset is never run')\n",
}
COMMIT = "a" * 40
PROGRAM = """
import json, sys
from runner.core.places import package_root
from runner.core.errors import RunnerError
from runner.core.specs import Mix
from runner.data import mix
try:
    read = mix.load(Mix(datasets=[sys.argv[1]]), 1, sys.argv[2], [package_root()])
    print(json.dumps([[row.messages[0].content, row.source, row.row] for row in read.train]))
except RunnerError as error:
    print(json.dumps(str(error)))
"""


class Hub(LocalServer):
    """Both hubs at once. asked: the paths so far; broken: a file that it fails to give."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.asked: list[str] = []
        self.broken = ""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answers(http.server.BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *said: Any) -> None:
        return

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        if path.startswith("/api/datasets/my/rows/revision/"):
            self._json({"id": "my/rows", "sha": COMMIT, "siblings": [{"rfilename": name} for name in FILES]})
        elif path.startswith("/api/datasets/my/rows/tree/"):
            self._json(
                [{"type": "file", "path": name, "size": len(held), "oid": _sha(held)} for name, held in FILES.items()]
            )
        elif path.startswith("/datasets/my/rows/resolve/"):
            self._file(path.rpartition("/")[2])
        elif path == "/api/v1/datasets/my/rows/repo/tree":
            files = [
                {"Path": name, "Name": name, "Type": "blob", "Size": len(held), "Revision": COMMIT,
                 "Sha256": hashlib.sha256(held).hexdigest()}
                for name, held in FILES.items()
            ]  # fmt: skip
            self._json({"Code": 200, "Success": True, "Data": {"Files": files, "TotalCount": len(files)}})
        elif path == "/api/v1/datasets/my/rows/repo":
            self._file(query["FilePath"][0])
        else:
            self._send(404, b'{"error": "there is no such thing"}')

    do_HEAD = do_POST = do_GET

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _file(self, name: str) -> None:
        if name == self.server.broken:
            self._send(403, b"{}")
        else:
            self._send(200, FILES[name], {"ETag": f'"{_sha(FILES[name])}"', "X-Repo-Commit": COMMIT})

    def _send(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _sha(held: bytes) -> str:
    return hashlib.sha1(held).hexdigest()


@pytest.fixture
def served() -> Iterator[Hub]:
    """A server of its own for each test."""
    hub = Hub()
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    yield hub
    hub.shutdown()
    hub.server_close()


def load(name: str, kind: str, address: str, home: Path) -> Any:
    """The rows of a dataset, or the sentence, in a process that starts with these addresses."""
    places = {name: str(home) for name in ("HF_HOME", "RUNNER_CACHE", "MODELSCOPE_CACHE", "MODELSCOPE_HOME")}
    known = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "MODELSCOPE_"))}
    more = {"HF_ENDPOINT": address, "MODELSCOPE_ENDPOINT": address, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, name, kind], env={**known, **places, **more}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("kind", ["modelscope", "huggingface"])
def test_a_dataset_is_fetched_once(kind: str, served: Hub, tmp_path: Path) -> None:
    """Its data and description, no code; the rows of its training split; afterwards the hub is not asked again."""
    rows = load("my/rows", kind, served.address, tmp_path)
    assert rows == [["q", "my/rows/train.jsonl", number] for number in range(3)]
    fetched = {file.name for file in tmp_path.rglob("*") if file.name in FILES}
    assert fetched == {"train.jsonl", "test.jsonl", "README.md"}
    served.asked.clear()
    assert load("my/rows#2", kind, served.address, tmp_path) == [["q", "my/rows/train.jsonl", n] for n in (0, 2)]
    assert not [path for path in served.asked if "my/rows" in path]
    assert load("my/rows", kind, "http://127.0.0.1:9", tmp_path) == rows


@pytest.mark.parametrize("kind", ["modelscope", "huggingface"])
def test_half_a_dataset_is_never_taken_for_the_whole(kind: str, served: Hub, tmp_path: Path) -> None:
    """Neither now nor when the hub is silent later; the next try fetches the rest."""
    served.broken = "test.jsonl"
    assert f"my/rows: {kind} does not give it" in load("my/rows", kind, served.address, tmp_path)
    assert f"on this machine, and {kind} does not answer" in load("my/rows", kind, "http://127.0.0.1:9", tmp_path)
    served.broken = ""
    assert len(load("my/rows", kind, served.address, tmp_path)) == 3


@pytest.mark.parametrize("kind", ["modelscope", "huggingface"])
def test_what_a_hub_does_not_have_is_told(kind: str, served: Hub, tmp_path: Path) -> None:
    """With the way out."""
    told = load("my/other", kind, served.address, tmp_path)
    assert told.startswith(f"my/other: {kind} does not give it") and "such as /path/to/other." in told
