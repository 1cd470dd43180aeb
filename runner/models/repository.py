"""A model's repository on a hub: made, looked into, written to; ModelScope and Hugging Face behind one protocol.

Each hub's own client library does the work: it finds the token (the environment's or the login's), asks which large
files the hub holds already, and tries again what may be tried again. What hubs and libraries say may quote a token, so
their words are not passed on, only what kind of failure it was.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from runner.core.errors import ConfigError, RunnerError, StageError
from runner.models.hub import endpoint, shown

Told = Callable[[int, int], None]  # files sent, files to send
CHUNK = 1 << 20
TOKENS = {"modelscope": "MODELSCOPE_API_TOKEN", "huggingface": "HF_TOKEN"}
LOGINS = {"modelscope": "modelscope login", "huggingface": "hf auth login"}
REFUSED = {
    401: "{hub} does not take the token. Is it right, and may it write? {login}",
    402: "{hub} wants to be paid for what {name} holds.",
    403: "{hub} does not let this token write to {name}. Take a repository of your own, or a token that may write.",
    404: "{hub} knows no {name} to write to. Is the owner's name right, is there such a revision?",
    413: "{hub} finds a file too large.",
}


@dataclass(frozen=True)
class Held:
    """A file that a hub holds: bytes, and a hash of the content: sha256, or git's of a blob."""

    size: int
    sha256: str | None = None
    blob: str | None = None

    def is_same(self, file: Path) -> bool:
        """Whether a file here has the same content."""
        size = file.stat().st_size
        if size != self.size:
            return False
        if self.sha256:
            return _digest(file, hashlib.sha256()) == self.sha256
        return self.blob is not None and _digest(file, hashlib.sha1(b"blob %d\0" % size)) == self.blob


class Repository(Protocol):
    """A model's repository, to be written to."""

    name: str
    address: str  # of its page

    def make(self, private: bool, license: str | None) -> bool:
        """Make it if it is not there. Returns whether it is private."""
        ...

    def files(self) -> dict[str, Held]:
        """What it holds, by path."""
        ...

    def text(self, path: str) -> str:
        """A small file that it holds."""
        ...

    def send(self, files: Mapping[str, Path], message: str, told: Told) -> None:
        """Write files, path in the repository -> file here, in one commit where the hub takes that many."""
        ...


def repository(hub: str, name: str, revision: str | None) -> Repository:
    """The repository of that name; nothing is asked yet."""
    return HuggingFace(name, revision) if hub == "huggingface" else ModelScope(name, revision)


class HuggingFace:
    """See `Repository`."""

    def __init__(self, name: str, revision: str | None) -> None:
        from huggingface_hub import HfApi

        self.name, self.revision, self.api = name, revision, HfApi(endpoint=endpoint("huggingface"))
        self.address = f"{shown('huggingface')}/{name}"

    def make(self, private: bool, license: str | None) -> bool:
        """See `Repository.make`; a revision that is not there becomes a branch."""
        self.api.create_repo(self.name, private=private, exist_ok=True)
        if self.revision is not None:
            self.api.create_branch(self.name, branch=self.revision, exist_ok=True)
        return bool(self.api.repo_info(self.name).private)

    def files(self) -> dict[str, Held]:
        """See `Repository.files`."""
        found: Any = self.api.list_repo_tree(self.name, recursive=True, revision=self.revision)
        return {
            one.path: Held(one.size, one.lfs.sha256 if one.lfs else None, one.blob_id)
            for one in found
            if hasattr(one, "blob_id")
        }

    def text(self, path: str) -> str:
        """See `Repository.text`."""
        with tempfile.TemporaryDirectory() as folder:
            file = self.api.hf_hub_download(self.name, path, revision=self.revision, local_dir=folder)
            return Path(file).read_text(encoding="utf-8", errors="replace")

    def send(self, files: Mapping[str, Path], message: str, told: Told) -> None:
        """See `Repository.send`: the large files one by one, so that it can be told how far that is."""
        from huggingface_hub import CommitOperationAdd

        self._agree_on_storage()
        made = [CommitOperationAdd(path_in_repo=path, path_or_fileobj=str(file)) for path, file in files.items()]
        for count, operation in enumerate(made):
            told(count, len(made))
            self.api.preupload_lfs_files(self.name, [operation], revision=self.revision, free_memory=False)
        self.api.create_commit(self.name, made, commit_message=message, revision=self.revision)
        told(len(made), len(made))

    def _agree_on_storage(self) -> None:
        """Where hf_xet is installed huggingface_hub 2 sends large files to Xet, whether the hub has it or not."""
        import huggingface_hub

        library: Any = huggingface_hub
        place = f"{endpoint('huggingface')}/api/models/{self.name}/xet-write-token/"
        headers = library.utils.build_hf_headers()
        asked = library.get_session().get(place + quote(self.revision or "main", safe=""), headers=headers)
        if asked.status_code == 404:
            library.constants.HF_HUB_DISABLE_XET = True


class ModelScope:
    """See `Repository`."""

    def __init__(self, name: str, revision: str | None) -> None:
        from modelscope_hub.api import HubApi

        self.name, self.revision, self.api = name, revision, HubApi(endpoint=endpoint("modelscope"))
        self.address = f"{shown('modelscope')}/models/{name}"

    def make(self, private: bool, license: str | None) -> bool:
        """See `Repository.make`."""
        from modelscope_hub.errors import NotExistError

        try:
            found = self.api.get_repo(self.name, "model")
        except NotExistError:
            self.api.create_repo(self.name, "model", visibility="private" if private else "public", license=license)
            return private
        return int(found.visibility or 0) == 1

    def files(self) -> dict[str, Held]:
        """See `Repository.files`."""
        found = self.api.list_repo_files(self.name, "model", revision=self.revision)
        return {one.path: Held(one.size, one.sha256) for one in found if one.type != "tree"}

    def text(self, path: str) -> str:
        """See `Repository.text`."""
        with tempfile.TemporaryDirectory() as folder:
            file = self.api.download_file(self.name, "model", path, revision=self.revision, local_dir=folder)
            return Path(file).read_text(encoding="utf-8", errors="replace")

    def send(self, files: Mapping[str, Path], message: str, told: Told) -> None:
        """See `Repository.send`. Its own cache of what was sent is left alone: the hub knows better."""
        told(0, len(files))
        with tempfile.TemporaryDirectory() as folder:
            for path, file in files.items():
                place = Path(folder, path)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(file.resolve())
            self.api.upload_folder(
                self.name, "model", folder, commit_message=message, revision=self.revision, use_cache=False,
                disable_tqdm=True,
            )  # fmt: skip
        told(len(files), len(files))


def has_token(hub: str) -> bool:
    """Whether there is a token, by the environment and by the files of a login; no library is asked."""
    if os.environ.get(TOKENS[hub]):
        return True
    home = Path.home()
    if hub == "huggingface":
        inside = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "huggingface"
        known = os.environ.get("HUGGING_FACE_HUB_TOKEN") or os.environ.get("HF_OIDC_RESOURCE")
        return bool(known) or Path(os.environ.get("HF_TOKEN_PATH") or Path(inside) / "token").expanduser().is_file()
    return Path(os.environ.get("MODELSCOPE_HOME") or home / ".modelscope", "credentials", "cookies").is_file()


def login(hub: str) -> str:
    """How to give a token."""
    return f"Put it into {TOKENS[hub]}, or log in: {LOGINS[hub]}."


def failure(error: BaseException, hub: str, name: str, key: str) -> RunnerError:
    """The sentence for what a hub's library raised, without a word of its own."""
    chain = list(_chain(error))
    status = next((status for status in map(_status, chain) if status), None)
    if status is None and any(isinstance(one, PermissionError) for one in chain):
        status = 403  # Xet's storage
    if status in REFUSED:
        problem, _, fix = REFUSED[status].format(hub=hub, name=name, login=login(hub)).partition(". ")
        return ConfigError(key, problem.rstrip("."), fix)
    kinds = {kind.__name__ for one in chain for kind in type(one).__mro__}
    silent = any("Connect" in kind or "Timeout" in kind or kind == "NetworkError" for kind in kinds)
    what = f"answers with {status}" if status else "does not answer" if silent else f"fails ({type(error).__name__})"
    return StageError(f"{key}: {hub} {what}. What it holds by now is not sent again: the same command goes on.")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _status(error: BaseException) -> int | None:
    for holder in (error, getattr(error, "response", None)):
        status: Any = getattr(holder, "status_code", None)
        if isinstance(status, int):
            return status
    return None


def _digest(file: Path, digest: Any) -> str:
    with open(file, "rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return str(digest.hexdigest())
