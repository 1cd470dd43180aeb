"""vLLM's own server on a GPU of this machine."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def serving(folder: Path, model: Path, *words: str, visible: str | None = None) -> Iterator[str]:
    """Until the block ends; its address, without a path. folder: where its log goes. words: more of its arguments.
    visible: the GPUs that it may use, where not all.
    """
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    told = ["--host", "127.0.0.1", "--port", str(port), "--gpu-memory-utilization", "0.1", "--enforce-eager"]
    told += ["--max-model-len", "1024", "--kv-cache-memory-bytes", "1073741824", *words]
    seen = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    with open(folder / "log", "wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(model), *told],
            stdout=log, stderr=log, env={**os.environ, "VLLM_SERVER_DEV_MODE": "1", **seen},
        )  # fmt: skip
    try:
        until = time.monotonic() + 300
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < until, (folder / "log").read_text()[-4000:]
                time.sleep(1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(60)
