"""Where no hub answers that is said at once, with the way out."""

import json
import re
import socket
import sys
import threading
import time
import types
from pathlib import Path
from typing import Any

import pytest

from runner.core.errors import ModelError
from runner.core.specs import Model
from runner.models import hub
from runner.models.load import tokenizer_of
from runner.models.locate import locate
from runner.models.repository import repository
from tests.tiny import tiny_model, tiny_tokenizer


@pytest.fixture
def dead(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """An address at which nobody listens, as the hub; an empty cache."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{held.getsockname()[1]}"
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", address)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return address


def test_silent_hub_is_one_sentence_within_seconds(dead: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 20)
    begun = time.monotonic()
    with pytest.raises(ModelError) as told:
        locate(Model(id="no-such-org/no-such-model"), "huggingface")
    assert time.monotonic() - begun < 10
    sentence = str(told.value)
    assert "no-such-org/no-such-model is not on this machine, and huggingface does not answer" in sentence
    assert "model.id=/path/to/model" in sentence and "hf_" not in sentence and "\n" not in sentence


def test_a_run_that_is_called_otherwise_is_named(dead: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """outputs/my_rum may be a hub's, of an organization called outputs; a run beside it is likelier."""
    (tmp_path / "outputs" / "my_run").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"Or pass a folder: model\.id=outputs/my_run$"):
        locate(Model(id="outputs/my_rum"), "huggingface")


def test_hub_that_accepts_and_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{held.getsockname()[1]}")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        begun = time.monotonic()
        assert hub.unreachable("huggingface", patience=0.3)
        assert time.monotonic() - begun < 2


def test_missing_library_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(hub.MODULES, "modelscope", "no_such_hub_library")
    with pytest.raises(
        ModelError, match=r"no_such_hub_library is not installed. Install the extra: hub.*model.id=/path"
    ):
        hub.download("org/name", None, "modelscope")


def hub_library(monkeypatch: pytest.MonkeyPatch, answer: Any) -> list[dict[str, Any]]:
    """A stand-in for modelscope that notes what it is asked."""
    asked: list[dict[str, Any]] = []

    def snapshot_download(name: str, **given: Any) -> str:
        asked.append({"name": name, **given})
        return str(answer(given))

    top, inner = types.ModuleType("modelscope"), types.ModuleType("modelscope.hub")
    last = types.ModuleType("modelscope.hub.snapshot_download")
    last.snapshot_download = snapshot_download  # type: ignore[attr-defined]
    top.__spec__ = types.SimpleNamespace()  # type: ignore[assignment]
    for module in (top, inner, last):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return asked


def test_what_is_here_is_taken_without_the_network(dead: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    asked = hub_library(monkeypatch, lambda given: tmp_path)
    assert hub.download("org/name", "main", "modelscope") == tmp_path
    assert [given["local_files_only"] for given in asked] == [True]
    assert asked[0]["revision"] == "main" and "*.bin" not in asked[0]["allow_patterns"]
    assert "*.py" not in asked[0]["allow_patterns"]


def test_a_download_that_was_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some files of several are there: the network is asked for the rest, not the model read."""
    names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    (tmp_path / names[0]).write_bytes(b"")
    asked = hub_library(monkeypatch, lambda given: tmp_path)
    monkeypatch.setattr(hub, "unreachable", lambda name: None)
    hub.download("org/name", None, "modelscope")
    (tmp_path / hub.INDEX).write_text(json.dumps({"weight_map": {"a": names[0], "b": names[1]}}))
    hub.download("org/name", None, "modelscope")
    assert [given["local_files_only"] for given in asked] == [True, False] * 2
    (tmp_path / names[1]).write_bytes(b"")
    hub.download("org/name", None, "modelscope")
    assert len(asked) == 5


@pytest.mark.parametrize("address", ["http://me:very-secret@127.0.0.1", "http://127.0.0.1:very-secret"])
def test_an_address_that_is_none_is_not_repeated(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What looks like a port may be a password; nor does a thread tell it as it dies."""
    died: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", died.append)
    monkeypatch.setenv("HF_ENDPOINT", address)
    assert "very-secret" not in (hub.unreachable("huggingface") or "very-secret") and not died


def test_a_tokenizer_comes_without_its_models_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even so where the whole model is wanted later."""
    tiny_model(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    asked = hub_library(monkeypatch, lambda given: tmp_path)
    assert len(tokenizer_of("org/name", "modelscope", "key").get_vocab()) == len(tiny_tokenizer())
    assert len(asked) == 1 and hub.WEIGHTS not in asked[0]["allow_patterns"] and "*.json" in asked[0]["allow_patterns"]
    monkeypatch.setattr(hub, "unreachable", lambda name: None)
    hub.download("org/name", None, "modelscope")
    assert [given["local_files_only"] for given in asked[1:]] == [True, False]
    assert hub.WEIGHTS in asked[2]["allow_patterns"]


def test_unknown_model_is_told_without_the_librarys_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(given: dict[str, Any]) -> Path:
        raise PermissionError("https://user:secret@hub")

    hub_library(monkeypatch, answer)
    monkeypatch.setattr(hub, "unreachable", lambda name: None)
    with pytest.raises(
        ModelError, match=r"modelscope does not give org/name \(PermissionError\). Is the name right"
    ) as told:
        hub.download("org/name", None, "modelscope")
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    ("hub_name", "variable"), [("huggingface", "HF_ENDPOINT"), ("modelscope", "MODELSCOPE_ENDPOINT")]
)
def test_a_repositorys_page_is_told_without_a_password(
    hub_name: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "http://me:very-secret@127.0.0.1:9")
    assert re.fullmatch(r"http://127.0.0.1:9/(models/)?me/model", repository(hub_name, "me/model", None).address)
