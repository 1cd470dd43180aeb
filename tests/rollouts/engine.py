"""Stands for vLLM where there is no GPU: the same calls, answered by a model of the weights that it was handed."""

import contextlib
import http.server
import importlib.machinery
import importlib.metadata
import sys
import threading
import time
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from tests.local_server import LocalServer


class Processor:
    """vLLM's own collector of the log-probabilities of one answer."""

    def __init__(self) -> None:
        self.own = self.logprobs = types.SimpleNamespace(token_ids=list[int](), logprobs=list[float]())

    def update_from_output(self, output: Any) -> None:
        self.own.token_ids += output.new_logprobs.logprob_token_ids[:, 0].tolist()
        self.own.logprobs += output.new_logprobs.logprobs[:, 0].tolist()


class Engine:
    """vLLM's LLMEngine as far as rollouts call it. `asleep`: what of it is away; a call that needs it fails."""

    made: "list[Engine]" = []  # noqa: RUF012 - read by the tests
    hears = True  # whether an answer's steps are told where vLLM 0.25 tells them

    def __init__(self, keys: dict[str, Any]) -> None:
        from transformers import AutoModelForCausalLM

        self.keys, self.calls, self.waiting = keys, list[str](), dict[str, Any]()
        self.model = AutoModelForCausalLM.from_pretrained(keys["model"]).eval()
        for parameter in self.model.parameters():
            parameter.data.zero_()  # nothing but what is handed over
        self.model_config = types.SimpleNamespace(dtype=torch.float32)
        self.engine_core = types.SimpleNamespace(shutdown=lambda: self.calls.append("shutdown"))
        self.asleep: set[str] = set()
        self.temperatures: list[float] = []
        self.processors: dict[str, Processor] = {}
        if self.hears:
            self.output_processor = types.SimpleNamespace(request_states={})
        self.random = torch.Generator().manual_seed(keys["seed"])
        Engine.made.append(self)

    @classmethod
    def from_engine_args(cls, keys: dict[str, Any], usage_context: Any) -> "Engine":
        return cls(keys)

    def is_sleeping(self) -> bool:
        return bool(self.asleep)

    def sleep(self, level: int) -> None:
        assert not self.asleep and not self.waiting and self.keys["enable_sleep_mode"]
        self.calls.append(f"sleep {level}")
        self.asleep = {"weights", "kv_cache"}

    def wake_up(self, tags: list[str]) -> None:
        self.calls.append(f"wake {' '.join(tags)}")
        self.asleep -= set(tags)

    def reset_prefix_cache(self) -> None:
        self.calls.append("reset")

    def apply_model(self, function: Any) -> None:
        assert "weights" not in self.asleep
        function(self)

    def load_weights(self, some: list[tuple[str, torch.Tensor]]) -> set[str]:
        held = dict(self.model.named_parameters())
        for name, value in some:
            held[name].data.copy_(value)
        self.calls.append("load")
        return {name for name, _ in some}

    def add_request(self, name: str, prompt: dict[str, Any], params: Any) -> str:
        self.waiting[name] = (prompt["prompt_token_ids"], params)
        self.processors[name] = Processor()
        if self.hears:
            state = types.SimpleNamespace(logprobs_processor=self.processors[name])
            self.output_processor.request_states[f"{name}-of-its-own"] = state
        return f"{name}-of-its-own"

    def abort_request(self, names: list[str]) -> None:
        for name in names:
            self.waiting.pop(name)

    @torch.no_grad()
    def step(self) -> list[Any]:
        """One whole answer."""
        assert not self.asleep
        name, (ids, params) = self.waiting.popitem()
        self.temperatures.append(params.temperature)
        new, processor, reason = list[int](), self.processors[name], "length"
        while len(new) < params.max_tokens:
            chances = self.model(torch.tensor([ids + new])).logits[0, -1].log_softmax(-1)
            chosen = chances.argmax()
            if params.temperature:
                chosen = torch.multinomial(chances.exp(), 1, generator=self.random)
            token = int(chosen)
            new.append(token)
            arrays = {"logprob_token_ids": np.array([[token]]), "logprobs": np.array([[float(chances[token])]])}
            processor.update_from_output(types.SimpleNamespace(new_logprobs=types.SimpleNamespace(**arrays)))
            if token in params.stop_token_ids:
                reason = "stop"
                break
        assert not params.detokenize  # nothing looks for a stop string
        assert params.flat_logprobs
        one = types.SimpleNamespace(token_ids=new, text="", logprobs=processor.logprobs, finish_reason=reason)
        return [types.SimpleNamespace(request_id=name, finished=True, outputs=[one])]


class Client:
    """TRL's client of a server, answered by the same engine."""

    model: Any = None  # its folder
    delay = 0.0  # seconds of each answer

    def __init__(self, base_url: str, group_port: int, connection_timeout: float) -> None:
        keys = {"model": Client.model, "seed": 0, "enable_sleep_mode": False}
        self.engine, self.group = Engine(keys), False

    def init_communicator(self, device: Any) -> None:
        self.group = True

    def get_server_info(self) -> dict[str, Any]:
        return {"model_config": {"logprobs_mode": "processed_logprobs"}}

    def update_named_params(self, told: list[tuple[str, str, list[int]]], named: Any) -> None:
        assert self.group
        some = list(named)
        assert [(name, str(value.dtype)[6:], list(value.shape)) for name, value in some] == told
        self.engine.load_weights(some)

    def reset_prefix_cache(self) -> None:
        self.engine.reset_prefix_cache()

    def generate(self, prompts: list[list[int]], **keys: Any) -> dict[str, Any]:
        time.sleep(self.delay)
        told = {name: keys[name] for name in ("max_tokens", "temperature")}
        params = types.SimpleNamespace(**told, **keys["generation_kwargs"], detokenize=False, flat_logprobs=True)
        answers = []
        for ids in prompts:
            self.engine.add_request("only", {"prompt_token_ids": ids}, params)
            answers.append(self.engine.step()[0].outputs[0])
        told = [[[value] for value in one.logprobs.logprobs] for one in answers]
        return {"completion_ids": [one.token_ids for one in answers], "logprobs": told}

    def close_communicator(self) -> None:
        self.engine.calls.append("left")


@contextlib.contextmanager
def answering(*codes: int) -> Iterator[str]:
    """The address of a server that answers /health with these codes in turn, and with the last one from then on."""
    left = list(codes)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(code if self.path == "/health" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *words: Any) -> None:
            pass

    with LocalServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def install(monkeypatch: pytest.MonkeyPatch, release: str = "0.25.1") -> None:
    """Put it where vLLM would be imported from."""
    names = (
        "trl",
        "trl.generation",
        "trl.generation.vllm_client",
        "vllm",
        "vllm.sampling_params",
        "vllm.usage",
        "vllm.usage.usage_lib",
    )
    modules = {name: types.ModuleType(name) for name in names}
    for name, module in modules.items():
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, module)
    kept: dict[str, Any] = {
        "EngineArgs": lambda **keys: keys, "LLMEngine": Engine,
        "SamplingParams": lambda **keys: types.SimpleNamespace(**keys),
    }  # fmt: skip
    modules["vllm"].__dict__.update(kept)
    modules["vllm.sampling_params"].__dict__["RequestOutputKind"] = types.SimpleNamespace(FINAL_ONLY=2)
    modules["vllm.usage.usage_lib"].__dict__["UsageContext"] = types.SimpleNamespace(LLM_CLASS="llm")
    modules["trl.generation.vllm_client"].__dict__["VLLMClient"] = Client
    version = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: release if name == "vllm" else version(name))
    monkeypatch.setattr(Engine, "made", [])
