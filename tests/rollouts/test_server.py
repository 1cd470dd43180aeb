"""What devices do together when the first one sends weights to a server: nobody asks before, nobody waits for ever."""

import multiprocessing
import os
import time
import types
from pathlib import Path
from typing import Any

import pytest

from runner.core.errors import ConfigError, StageError
from runner.core.specs import Backend, Model, Sampling
from runner.engines.ranks import free_port
from runner.rollouts import address
from runner.rollouts.answers import Prompt
from runner.rollouts.sampler import Engine
from tests.rollouts.engine import Client, answering, install


class Slow:
    """A client whose sending takes its time, and fails where that is asked for."""

    def __init__(self, folder: Path, fails: bool) -> None:
        self.folder, self.fails = folder, fails

    def update_named_params(self, told: Any, named: Any) -> None:
        time.sleep(1.0)
        if self.fails:
            raise RuntimeError("the line broke")
        assert len(list(named)) == len(told)

    def reset_prefix_cache(self) -> None:
        (self.folder / "sent").touch()


def server(at: str = "http://127.0.0.1:8000") -> Any:
    """A sampler that has not met its server."""
    from runner.rollouts._server import LiveServer
    from tests.tiny import tiny_tokenizer

    keys = Engine(Model(id="x"), Backend(), Sampling(), server=at, timeout=30.0)
    return LiveServer(keys, Sampling(), tiny_tokenizer(), types.SimpleNamespace(base=Path("nowhere")))


def learner(rank: int, world: int) -> Any:
    """As much of one as a sampler looks at."""
    from tests.training import small

    args = types.SimpleNamespace(process_index=rank, world_size=world, device="cpu")
    return types.SimpleNamespace(own=small.model(), trainer=types.SimpleNamespace(args=args))


def device(folder: Path, rank: int, port: int, fails: bool) -> None:
    """One of two: begins, then writes down whether the weights were there, or what it was told."""
    import torch

    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    one = server()
    one.client = Slow(folder, fails)
    try:
        one.begin(learner(rank, 2))
        said = str((folder / "sent").exists())
    except StageError as error:
        said = str(error)
    (folder / f"said{rank}").write_text(said)
    os._exit(0)


def both(folder: Path, fails: bool) -> list[str]:
    """What each device wrote down."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "transformers", "runner.rollouts._server", "tests.training.small"])
    port = free_port()
    started = [context.Process(target=device, args=(folder, rank, port, fails)) for rank in (0, 1)]
    for process in started:
        process.start()
    for process in started:
        process.join(60)
        process.kill()
    return [(folder / f"said{rank}").read_text() for rank in (0, 1)]


def test_no_device_asks_before_the_weights_are_there(tmp_path: Path) -> None:
    assert both(tmp_path, fails=False) == ["True", "True"]


def test_a_failure_of_the_sending_device_is_told_by_all(tmp_path: Path) -> None:
    told = both(tmp_path, fails=True)
    assert all("sending the weights failed: the line broke" in one for one in told), told


def test_the_optimizer_is_waited_for_before_weights_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are read on streams of their own (vLLM's packed_nccl_broadcast_producer)."""
    import torch

    calls: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: calls.append(f"device {device}"))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: calls.append("waited"))
    one = server()
    one.client = Slow(tmp_path, fails=False)
    one.client.update_named_params = lambda told, named: calls.append("read")
    one.begin(learner(0, 1))
    assert calls == ["device cpu", "waited", "read"]


def test_a_server_is_told_all_of_sampling_and_an_answer_ends_at_a_stop_string() -> None:
    """As with other engines: its text ends before, its ids with it, and it is no answer that was cut off."""
    sampling = Sampling(
        max_new_tokens=9, temperature=0.5, top_p=0.9, top_k=7, min_p=0.1, repetition_penalty=1.1,
        presence_penalty=0.2, frequency_penalty=0.3, stop=["two"],
    )  # fmt: skip
    one, given = server(), dict[str, Any]()
    ids = one.tokenizer.encode("one two three", add_special_tokens=False)

    def generate(prompts: Any, **keys: Any) -> dict[str, Any]:
        given.update(keys)
        return {"completion_ids": [ids, ids], "logprobs": [[[-1.0]] * len(ids)] * 2}

    one.client = types.SimpleNamespace(generate=generate)
    prompt = Prompt("id", "source", 0, (), {}, "ask", (1, 2), 2)
    made: dict[int, Any] = {}
    one.answer([prompt, prompt], [0, 1], made.__setitem__, sampling)
    assert (made[0].text, made[0].finish_reason, list(made[0].token_ids)) == ("one ", "stop", ids) and made[0] == made[
        1
    ]
    more = given.pop("generation_kwargs")
    assert more.pop("stop_token_ids") and given.pop("n") == 1 and given.pop("logprobs") == 0
    wanted = {**given, **more, "max_new_tokens": given["max_tokens"]}
    wanted.pop("max_tokens")
    assert Sampling(**wanted) == sampling
    one.answer([prompt, prompt], [0, 1], made.__setitem__, Sampling(max_new_tokens=len(ids)))
    assert (made[0].text, made[0].finish_reason) == ("one two three", "length")


@pytest.mark.parametrize("at", ["http://host:8000", "https://host/", "http://127.0.0.1:1//"])
def test_an_address_with_or_without_a_slash_passes(at: str) -> None:
    address.check(at, "stages.train.server")


@pytest.mark.parametrize(
    "at", ["http://host:8000/v1", "host:8000", "8000", "", "http://host:x", "http://host:8000?a=1"]
)
def test_what_is_no_address_is_refused_when_planning(at: str) -> None:
    with pytest.raises(ConfigError, match=r"stages\.train\.server: .*(is no address of a server|has a path)\. Say"):
        address.check(at, "stages.train.server")


def test_a_server_that_loads_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "PAUSE", 0.1)
    with answering(503, 503, 200) as url:
        address.wait(url, 60.0)
    with answering(503) as url, pytest.raises(ConnectionError, match=r"not up after 0\.3 s \(it answers 503"):
        address.wait(url, 0.3)
    with pytest.raises(ConnectionError, match="not up after 0 s"):
        address.wait(url, 0.0)  # nobody is there any more


def test_another_kind_of_server_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    monkeypatch.setenv("VLLM_HOST_IP", "127.0.0.1")
    with (
        answering(404) as url,
        pytest.raises(StageError, match=r"failed: it answers 404 to /health, which is no server"),
    ):
        server(url).begin(learner(0, 1))


def test_a_server_that_tells_nothing_of_itself_is_told_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:  # fmt: skip
    """And where the weights come from is this machine when the server is on it."""
    from tests.tiny import tiny_model

    install(monkeypatch)
    monkeypatch.setattr(Client, "model", str(tiny_model(tmp_path / "tiny")))
    monkeypatch.setenv("VLLM_HOST_IP", "")
    monkeypatch.delenv("VLLM_HOST_IP")

    def silent(self: Client) -> Any:
        raise RuntimeError("no development endpoints. Start it otherwise.")

    monkeypatch.setattr(Client, "get_server_info", silent)
    with answering(200) as url, pytest.raises(StageError, match=r"meeting the server failed: no dev.* otherwise\.$"):
        server(f"{url}/").begin(learner(0, 1))
    assert os.environ["VLLM_HOST_IP"] == "127.0.0.1"
