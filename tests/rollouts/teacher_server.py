"""A server that speaks as vLLM's does when it is asked for `prompt_logprobs`: a real tiny model's, over a real socket.

It knows the model `master`, fails the first `failing` requests with status 503, takes the key `secret` when it is told
to want one, refuses more than `most` words, and can be told to say its words otherwise.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.backends.server import Json, listening

NAME = "master"


@dataclass
class State:
    """What the tests set and see. silent: it tells no log-probabilities. foreign: its words are others. busy: the most
    requests that were at work at once.
    """

    model: Any
    tokenizer: Any
    most: int = 20
    failing: int = 0
    key: str | None = None
    silent: bool = False
    foreign: bool = False
    length: int = 4096
    asked: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""
    now: int = 0
    busy: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Handler(Json):
    """See the module."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if not self._refused():
            card = {"id": NAME, "object": "model", "max_model_len": self.state.length}
            self._reply(200, {"object": "list", "data": [card]})

    def do_POST(self) -> None:
        body, state = json.loads(self.rfile.read(int(self.headers["Content-Length"]))), self.state
        if self._refused():
            return None
        with state.lock:
            state.asked.append(body)
            state.now += 1
            state.busy = max(state.busy, state.now)
            failing, state.failing = state.failing > 0, state.failing - 1
        threading.Event().wait(0.01)
        with state.lock:
            state.now -= 1
            if failing:
                return self._reply(503, {"error": {"message": "busy"}})
            count = body["prompt_logprobs"]
            if count > state.most:
                told = f"Requested prompt logprobs of {count}, which is greater than max allowed: {state.most}"
                return self._reply(400, {"error": {"message": told, "type": "BadRequestError", "code": 400}})
            choice = {"index": 0, "text": "x", "finish_reason": "length", "logprobs": None}
            if not state.silent:
                choice["prompt_logprobs"] = self._told(body["prompt"], count)
            made = {"id": "1", "object": "text_completion", "created": 0, "model": NAME, "choices": [choice]}
        return self._reply(200, made)

    def _told(self, ids: list[int], count: int) -> list[dict[str, Any] | None]:
        import torch

        with torch.no_grad():
            chances = self.state.model(torch.tensor([ids])).logits[0].log_softmax(-1)
        made: list[dict[str, Any] | None] = [None]
        for place, token in enumerate(ids[1:]):
            order = chances[place].argsort(descending=True).tolist()
            words = list(dict.fromkeys([token, *order[:count]]))
            made.append({str(word): self._word(word, chances[place], order) for word in words})
        return made

    def _word(self, word: int, chances: Any, order: list[int]) -> dict[str, Any]:
        said = "foreign" if self.state.foreign else self.state.tokenizer.decode([word])
        return {"logprob": float(chances[word]), "rank": order.index(word) + 1, "decoded_token": said}


@contextmanager
def teaching(folder: Path, **keys: Any) -> Iterator[State]:
    """A server of the model in a folder, on a free port until the block ends."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    with listening(Handler, State(model, tokenizer, **keys)) as state:
        yield state
