"""A small server that speaks the parts of OpenAI's interface that the client uses, over a real socket.

It answers with what it was asked, refuses prompts with the id 7 or the word "refuse", fails the first `failing`
requests with status 503, and takes the key `secret` when it is told to want one. A `strict` one refuses more max_tokens
than a context of 100 tokens leaves. One that is `missing` has nothing anywhere. What `says` holds it says to every
request of that method, whatever was asked.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.local_server import LocalServer


@dataclass
class Server:
    """What the tests set and see. busy: the most requests that were at work at once."""

    failing: int = 0
    key: str | None = None
    delay: float = 0.0
    strict: bool = False
    missing: bool = False
    says: dict[str, str] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""
    now: int = 0
    busy: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Json(BaseHTTPRequestHandler):
    """One request, which may want the key of `state` and is answered in JSON."""

    @property
    def state(self) -> Any:
        """What the tests set and see."""
        return self.server.state  # type: ignore[attr-defined]

    def log_message(self, *words: Any) -> None: ...

    def _refused(self) -> bool:
        if self.state.key and self.headers.get("Authorization") != f"Bearer {self.state.key}":
            self._reply(401, {"error": {"message": "wrong key"}})
            return True
        return False

    def _missing(self) -> bool:
        if getattr(self.state, "missing", False):
            self._reply(404, {"detail": "Not Found"})
        return getattr(self.state, "missing", False)

    def _reply(self, status: int, body: dict[str, Any]) -> None:
        self._say(status, json.dumps(body), "application/json")

    def _say(self, status: int, words: str, kind: str) -> None:
        text = words.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


class Handler(Json):
    """See the module."""

    def do_GET(self) -> None:
        if self._refused() or self._missing():
            return
        if "GET" in self.state.says:
            return self._say(200, self.state.says["GET"], kind_of(self.state.says["GET"]))
        self._reply(200, {"object": "list", "data": [{"id": "robin", "object": "model", "max_model_len": 100}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self._refused() or self._missing():
            return
        with self.state.lock:
            self.state.asked.append({"path": self.path, **body})
            self.state.now += 1
            self.state.busy = max(self.state.busy, self.state.now)
            failing, self.state.failing = self.state.failing > 0, self.state.failing - 1
        threading.Event().wait(self.state.delay)
        with self.state.lock:
            self.state.now -= 1
        if "POST" in self.state.says:
            return self._say(200, self.state.says["POST"], kind_of(self.state.says["POST"]))
        if failing:
            return self._reply(503, {"error": {"message": "busy"}})
        if self.state.strict and body.get("max_tokens", 0) > (room := 100 - len(body.get("prompt", [0] * 11))):
            return self._reply(400, {"error": {"message": NO_ROOM.format(body["max_tokens"], room)}})
        if "detail" in json.dumps(body.get("messages", "")):  # as FastAPI says it
            return self._reply(400, {"detail": "prompt must be a string"})
        if 7 in body.get("prompt", ()) or "refuse" in json.dumps(body.get("messages", "")):
            return self._reply(400, {"error": {"message": "this prompt is refused"}})
        if body.get("stream"):
            return self._stream(body)
        return self._reply(200, answer(self.path, body))

    def _stream(self, body: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for event in events(self.path, body):
            self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")


def kind_of(words: str) -> str:
    """The content type of what is said whatever was asked."""
    return "text/html" if words.startswith("<") else "text/event-stream" if words[:5] == "data:" else "application/json"


@contextmanager
def listening(handler: type[Json], state: Any) -> Iterator[Any]:
    """The state of a server on a free port until the block ends; its `url` is set."""
    made = LocalServer(("127.0.0.1", 0), handler)
    made.state = state  # type: ignore[attr-defined]
    state.url = f"http://127.0.0.1:{made.server_port}/v1"
    threading.Thread(target=made.serve_forever, daemon=True).start()
    try:
        yield state
    finally:
        made.shutdown()
        made.server_close()


@contextmanager
def serving(**keys: Any) -> Iterator[Server]:
    """A server on a free port until the block ends."""
    with listening(Handler, Server(**keys)) as state:
        yield state


NO_ROOM = "'max_tokens' is too large: {}. This model's maximum context length is 100 tokens, {} are left."  # as vLLM
USAGE = {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}


def answer(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """`N ids` or `you said WORDS`, with thoughts set apart where thinking is on."""
    if path.endswith("/chat/completions"):
        thinking = body.get("chat_template_kwargs", {}).get("enable_thinking")
        message = {"role": "assistant", "content": f"you said {said(body)}"}
        if thinking:
            message["reasoning_content"] = "hm"
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
    else:
        text = f"{len(body['prompt'])} ids, seed {body['seed']}"
        choice = {"index": 0, "text": text, "finish_reason": "length", "logprobs": None}
        if "logprobs" in body:
            choice["logprobs"] = {"token_logprobs": [-0.5, -0.25, -1.0]}
    return {"id": "1", "object": "x", "created": 0, "model": "robin", "choices": [choice], "usage": USAGE}


def said(body: dict[str, Any]) -> str:
    """The last question."""
    return str([message["content"] for message in body["messages"] if message["role"] == "user"][-1])


def events(path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The same answer word by word."""
    whole = answer(path, body)["choices"][0]
    parts: list[dict[str, Any]] = []
    if path.endswith("/chat/completions"):
        thought = whole["message"].get("reasoning_content", "")
        parts += [{"delta": {"reasoning_content": letter}} for letter in thought]
        parts += [{"delta": {"content": word}} for word in pieces(whole["message"]["content"])]
    else:
        parts += [{"text": word} for word in pieces(whole["text"])]
    for number, part in enumerate(parts):
        last = whole["finish_reason"] if number == len(parts) - 1 else None
        yield {"id": "1", "object": "x", "created": 0, "model": "robin",
               "choices": [{"index": 0, "finish_reason": last, "logprobs": None, **part}]}  # fmt: skip
    yield {"id": "1", "object": "x", "created": 0, "model": "robin", "choices": [], "usage": USAGE}


def pieces(text: str) -> list[str]:
    """Words, the blank before each with it."""
    words = text.split(" ")
    return words[:1] + [" " + word for word in words[1:]]
