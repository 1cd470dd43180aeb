"""A model or an adapter into a repository on a hub, by the hubs' own libraries, to a hub on this machine."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.core.errors import ModelError
from runner.models.locate import Located
from runner.stages._card import shortened
from runner.stages._package import contents
from tests.stages.hub_server import TOKEN, Hub, serve
from tests.tiny import tiny_model

HUBS = ("huggingface", "modelscope")
PLACES = (*HUBS, "huggingface with Xet")  # Xet: the storage that Hugging Face has for large files
BRANCH = {"huggingface": "main", "modelscope": "master"}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """An empty hub, both endpoints and tokens pointing to it."""
    made = Hub()
    server = serve(made)
    for name in ("HF_ENDPOINT", "MODELSCOPE_ENDPOINT"):
        monkeypatch.setenv(name, made.url)
    for name in ("HF_TOKEN", "MODELSCOPE_API_TOKEN"):
        monkeypatch.setenv(name, TOKEN)
    for name in ("HF_HOME", "MODELSCOPE_HOME", "MODELSCOPE_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "home" / name))
    monkeypatch.setenv("HF_XET_XORB_COMPRESSION_POLICY", "none")  # so that the hub can read what it is sent
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    yield made
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model."""
    return tiny_model(tmp_path_factory.mktemp("made") / "model")


@pytest.fixture
def model(made: Path, tmp_path: Path) -> Path:
    """A copy of it in two shards, with what a checkpoint holds beside a model."""
    import torch
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(made, folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    index = {}
    for number, names in enumerate((sorted(weights)[::2], sorted(weights)[1::2]), 1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: weights[name] for name in names}, folder / file, {"format": "pt"})
        index |= dict.fromkeys(names, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    torch.save({}, folder / "optimizer.pt")
    (folder / "trainer_state.json").write_text("{}")
    return folder


def at(hub: Hub, place: str) -> str:
    """The hub's name; it gets the storage that the place has."""
    if "Xet" in place:
        pytest.importorskip("hf_xet")
        hub.xet = True
    return place.split()[0]


def push(hub: str, *words: str, model: str = "model") -> "subprocess.CompletedProcess[str]":
    """The command of a user."""
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-m", "runner", "+recipe=push", f"model={model}", "stages.push.repo=me/mine"]
    environment = {**os.environ, "PYTHONPATH": root}
    return subprocess.run(
        [*command, f"hub={hub}", *words], capture_output=True, text=True, env=environment, timeout=120, check=False
    )


def noise(told: str) -> list[str]:
    """Reports, bars and warnings of libraries in what a user is told."""
    return re.findall(r"===.*|.*[|%].*|.*[Ww]arn.*", told)


@pytest.mark.parametrize("place", PLACES)
def test_a_model_goes_to_a_hub_once(hub: Hub, model: Path, place: str, tmp_path: Path) -> None:
    """Private, without the optimizer, with a card; the second time nothing is sent; what changed is."""
    name = at(hub, place)
    done = push(name, "stages.push.license=apache-2.0", "stages.push.message=mine")
    assert done.returncode == 0, done.stdout + done.stderr
    assert hub.repos["me/mine"].private and len(hub.sent) == 2 and hub.messages[0].startswith("mine")
    there = hub.repos["me/mine"].files[BRANCH[name]]
    here = {file.name: file.read_bytes() for file in model.iterdir()}
    del here["optimizer.pt"], here["trainer_state.json"]
    card = there["README.md"].decode()
    assert {path: content for path, content in there.items() if path not in ("README.md", ".gitattributes")} == here
    assert "license: apache-2.0" in card and "# mine" in card and str(tmp_path) not in card
    assert "not sent, it does not load the model: optimizer.pt, trainer_state.json" in done.stdout
    assert not noise(done.stdout + done.stderr)
    assert not list(model.glob(".*")) and not (model / "README.md").exists()
    again = push(name, "stages.push.license=apache-2.0", "stages.push.message=mine")
    assert again.returncode == 0 and "0 files to send (0 bytes)" in again.stdout, again.stdout + again.stderr
    assert len(hub.sent) == 2 and len(hub.messages) == 1
    (model / "config.json").write_text(json.dumps({**json.loads(here["config.json"]), "note": 1}))
    assert "1 files to send" in push(name, "stages.push.license=apache-2.0").stdout and len(hub.sent) == 2
    assert json.loads(there["config.json"])["note"] == 1


@pytest.mark.parametrize("place", PLACES)
def test_a_failed_upload_goes_on(hub: Hub, model: Path, place: str) -> None:
    """What the hub has of it is not sent again, and the token that it quotes is not told."""
    name = at(hub, place)
    hub.fails = 1
    failed = push(name)
    told = failed.stdout + failed.stderr
    assert failed.returncode in (1, 2) and len(hub.sent) == 1 and TOKEN not in told, told
    hub.fails = None
    done = push(name)
    assert done.returncode == 0 and len(hub.sent) == 2 == len(set(hub.sent)), done.stdout + done.stderr
    there = hub.repos["me/mine"].files[BRANCH[name]]
    assert all(there[file.name] == file.read_bytes() for file in model.glob("*.safetensors"))
    files = [file.read_bytes() for file in Path("outputs").rglob("*") if file.is_file()]
    assert not any(TOKEN.encode() in content for content in files)


@pytest.mark.parametrize("place", PLACES)
def test_ctrl_c_stops_an_upload(hub: Hub, model: Path, place: str) -> None:
    """At once, though a file is on its way."""
    name = at(hub, place)
    hub.slow = threading.Event()
    command = [sys.executable, "-m", "runner", "+recipe=push", "model=model", "stages.push.repo=me/mine"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with open("told.txt", "w") as told:
        running = subprocess.Popen([*command, f"hub={name}"], env=environment, stdout=told, stderr=subprocess.STDOUT)
    while "files to send" not in Path("told.txt").read_text() and running.poll() is None:
        time.sleep(0.05)
    time.sleep(0.3)
    running.send_signal(signal.SIGINT)
    asked = time.monotonic()
    code, words = running.wait(20), Path("told.txt").read_text()
    assert code == 130 and time.monotonic() - asked < 5, words
    assert "What the hub holds by now is not sent again" in words and not noise(words)
    hub.slow.set()


@pytest.mark.parametrize("name", HUBS)
def test_a_page_that_a_person_wrote_stays(hub: Hub, model: Path, name: str) -> None:
    """Theirs here is sent as it is; theirs there is kept; ours is renewed."""
    assert push(name).returncode == 0
    there = hub.repos["me/mine"].files[BRANCH[name]]
    first = there["README.md"]
    assert push(name, "stages.push.license=mit").returncode == 0 and there["README.md"] != first
    there["README.md"] = there["README.md"].replace(b"# mine", b"# My own words")
    kept = there["README.md"]
    done = push(name)
    assert "its README.md was written by a person there, and stays" in done.stdout and there["README.md"] == kept
    (model / "README.md").write_text("# Written by me\n")
    assert push(name).returncode == 0 and there["README.md"] == b"# Written by me\n"


def test_an_adapter_and_a_branch(hub: Hub, made: Path, tmp_path: Path) -> None:
    """The form that peft lays beside an adapter is no page of a person's."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    shutil.copytree(made, tmp_path / "base")
    get_peft_model(AutoModelForCausalLM.from_pretrained(made), LoraConfig(r=2)).save_pretrained("adapter")
    told = json.loads(Path("adapter/adapter_config.json").read_text())
    Path("adapter/adapter_config.json").write_text(
        json.dumps({**told, "base_model_name_or_path": str(tmp_path / "base")})
    )
    assert "[More Information Needed]" in Path("adapter/README.md").read_text()
    done = push("huggingface", "stages.push.revision=v2", "stages.push.private=false", model="adapter")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "names its base by a place on this machine" in done.stdout
    repo = hub.repos["me/mine"]
    assert set(repo.files["v2"]) - set(repo.files["main"]) >= {"adapter_model.safetensors", "adapter_config.json"}
    card = repo.files["v2"]["README.md"].decode()
    assert "An adapter (LORA, rank 2) for `base`" in card and not repo.private and str(tmp_path) not in card


def test_what_would_be_sent_is_listed_without_a_hub(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("MODELSCOPE_API_TOKEN", raising=False)
    done = push("modelscope", "stages.push.dry_run=true")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "model-00001-of-00002.safetensors" in done.stdout and "would send" in done.stdout


@pytest.mark.parametrize("name", HUBS)
def test_private_weights_do_not_go_into_a_public_repository(hub: Hub, model: Path, name: str) -> None:
    hub.make("me/mine", False, BRANCH[name])
    done = push(name)
    assert done.returncode == 2 and "me/mine is there already, and public" in done.stderr and not hub.sent
    assert "stages.push.private" in done.stderr
    assert push(name, "stages.push.private=false").returncode == 0 and len(hub.sent) == 2


@pytest.mark.parametrize("name", HUBS)
def test_a_token_that_is_not_taken(hub: Hub, model: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HF_TOKEN", "MODELSCOPE_API_TOKEN"):
        monkeypatch.setenv(variable, "another-secret")
    done = push(name)
    told = done.stdout + done.stderr
    assert done.returncode == 2 and f"{name} does not take the token" in done.stderr, told
    assert "another-secret" not in told and "Traceback" not in told


def test_a_revision_that_modelscope_does_not_have(hub: Hub, model: Path) -> None:
    """Its library makes none, as Hugging Face's does."""
    done = push("modelscope", "stages.push.revision=v2")
    assert done.returncode == 2 and "modelscope knows no me/mine to write to" in done.stderr, done.stdout + done.stderr
    assert "is there such a revision?" in done.stderr and not hub.sent


def test_the_hub_of_these_tests_counts_blobs_that_come_at_once(hub: Hub) -> None:
    """ModelScope's library sends them side by side: a hub that fails after one takes one, not both."""
    hub.fails, hub.slow = 1, threading.Event()
    answers: list[int] = []

    def put(content: bytes) -> None:
        address = f"{hub.url}/blob/{hashlib.sha256(content).hexdigest()}"
        asked = urllib.request.Request(address, content, method="PUT")
        try:
            answers.append(urllib.request.urlopen(asked).status)
        except urllib.error.HTTPError as error:
            answers.append(error.code)

    threads = [threading.Thread(target=put, args=(bytes([n]) * 2**24,)) for n in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    hub.slow.set()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200, 403, 403, 403] and len(hub.sent) == 1


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("mix.datasets=[{dataset:/home/me/a.jsonl,take:5}]", "mix.datasets=[{dataset:a.jsonl,take:5}]"),
        ("model=/data/Qwen", "model=Qwen"),
        ("file:///home/me/a.jsonl", "a.jsonl"),
        ("~/a.jsonl ../b.jsonl", "a.jsonl b.jsonl"),
        ("base_url=https://host:8000/v1", "base_url=https://host:8000/v1"),
        ("dataset:org/name", "dataset:org/name"),
    ],
)
def test_a_card_names_no_place_of_this_machine(told: str, shown: str) -> None:
    """One after a colon, as a mapping on the command line has it, was told to everybody."""
    assert shortened(told) == shown


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_an_index_that_names_no_files(tmp_path: Path, text: str) -> None:
    for name in ("config.json", "model-1.safetensors"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ModelError, match=r"index.json: (is no JSON|holds list|names no files)"):
        contents(Located(tmp_path))
