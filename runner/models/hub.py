"""Fetches models from a hub, ModelScope or Hugging Face: what was fetched before is taken without asking the network.

Weights as safetensors only. Where no hub answers, that is said within seconds, with the way out: a local folder. Tokens
stay where the hub's own library keeps them and are in no sentence of ours.
"""

import http.client
import importlib.util
import os
import re
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from runner.core.errors import ModelError, near_miss
from runner.models.facts import facts

MODULES = {"modelscope": "modelscope", "huggingface": "huggingface_hub"}
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
WEIGHTS = "*.safetensors"
INDEX = "model.safetensors.index.json"
PART = re.compile(r"-\d+-of-\d+\.safetensors$")
FILES = ["*.json", WEIGHTS, "*.jinja", "*.txt", "*.model", "*.tiktoken"]
CODE = ["*.py"]  # only where the model's own code is trusted
PATIENCE = 6.0  # seconds


def download(
    name: str, revision: str | None, hub: str, *, key: str = "model.id", code: bool = False, weights: bool = True
) -> Path:
    """The folder of a model on this machine, downloaded when it is not there yet.

    Args:
        name: org/model. hub: modelscope or huggingface. key: of the recipe, for the sentence.
        code: whether the model's own Python files come along. weights: and its weights; else tokenizer and config.

    Raises:
        ModelError: the hub's library is missing, the hub does not answer, or it does not give that model.
    """
    if importlib.util.find_spec(MODULES[hub]) is None:
        lacks = f"{MODULES[hub]} is not installed. Install the extra: hub."
        raise ModelError(f"{key}: {name} is on {hub}, and {lacks} {_way_out(key, name)}")
    wanted = [*(FILES if weights else [each for each in FILES if each != WEIGHTS]), *(CODE if code else [])]
    found = _fetch(name, revision, hub, wanted, local=True)
    if isinstance(found, Path) and (_has_weights(found) if weights else next(found.glob("tokenizer*"), None)):
        return found
    silence = unreachable(hub)
    if silence:
        raise ModelError(
            f"{key}: {name} is not on this machine, and {hub} does not answer ({silence}). {_way_out(key, name)}"
        )
    found = _fetch(name, revision, hub, wanted, local=False)
    if isinstance(found, Path):
        return found
    at = f" at revision {revision}" if revision else ""
    raise ModelError(
        f"{key}: {hub} does not give {name}{at} ({found}). Is the name right, are you logged in? {_way_out(key, name)}"
    )


def _has_weights(folder: Path) -> bool:
    """Whether all files of weights are there: a download that was stopped leaves some."""
    here = {file.name for file in folder.glob(WEIGHTS)}
    index = folder / INDEX
    if index.is_file():
        return here.issuperset((facts(index).get("weight_map") or {}).values())
    return bool(here) and not any(PART.search(name) for name in here)


def _way_out(key: str, name: str) -> str:
    """A folder; the one here that is called nearly so, as `outputs/my_rum` may have been meant for no hub at all."""
    above = Path(name).parent
    near = near_miss(Path(name).name, [path.name for path in above.glob("*")])
    meant = near.removeprefix("Did you mean ").rstrip("?") if near.startswith("Did") else ""
    return f"Or pass a folder: {key}={above / meant if meant else '/path/to/model'}"


def _fetch(name: str, revision: str | None, hub: str, wanted: list[str], *, local: bool) -> Path | str:
    """The folder, or the name of what went wrong."""
    given: dict[str, Any] = {
        "revision": revision,
        "local_files_only": local,
        "allow_patterns": wanted,
    }
    try:
        if hub == "modelscope":
            from modelscope.hub.snapshot_download import snapshot_download as from_modelscope

            return Path(from_modelscope(name, **given))
        from huggingface_hub import snapshot_download as from_huggingface

        return Path(from_huggingface(name, **given))
    except Exception as error:  # noqa: BLE001 - the two libraries share no error; its text may hold an address with a key
        return type(error).__name__


def endpoint(hub: str) -> str:
    """The address of a hub, as its own library reads it from the environment."""
    if hub == "modelscope":
        domain = os.environ.get("MODELSCOPE_DOMAIN")
        return os.environ.get("MODELSCOPE_ENDPOINT") or (f"https://{domain}" if domain else "https://modelscope.cn")
    return os.environ.get("HF_ENDPOINT") or "https://huggingface.co"


def shown(hub: str) -> str:
    """The address of a hub as it may be told: mirrors are sometimes given with a password."""
    return re.sub(r"://[^/@]*@", "://", endpoint(hub))


def unreachable(hub: str, patience: float = PATIENCE) -> str | None:
    """Why a hub does not answer, or None when it does. Any answer counts, errors too; a slow name server does not."""
    told: list[str | None] = [f"nothing within {patience:g} s"]

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(endpoint(hub), method="HEAD"), timeout=patience).close()
            told[0] = None
        except urllib.error.HTTPError:
            told[0] = None
        except urllib.error.URLError as error:
            told[0] = getattr(error.reason, "strerror", None) or str(error.reason)
        except (OSError, ValueError, http.client.HTTPException) as error:  # its text may hold a password
            told[0] = type(error).__name__

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(patience)
    return told[0]
