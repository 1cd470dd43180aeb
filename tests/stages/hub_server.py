"""A hub on this machine: the parts of ModelScope's and of Hugging Face's interface that writing a model needs.

Both speak of the same repositories, so that a test says once what a hub should hold. It notes each blob that it is
sent, fails on demand, and quotes the token in every refusal, as a hub might. Where it has Xet's storage, as Hugging
Face has, large files come as chunks, xorbs and shards: https://huggingface.co/docs/xet.
"""

import base64
import hashlib
import http.server
import json
import re
import threading
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.local_server import LocalServer

TOKEN, XET_TOKEN = "very-secret-token", "short-lived-token"
LFS = (".safetensors",)


@dataclass
class Repo:
    """private: whether others may not see it. files: content by revision and path."""

    private: bool
    files: dict[str, dict[str, bytes]]
    license: str | None = None


@dataclass
class Hub:
    """What a hub knows. sent: oids of blobs in the order they came. fails: blobs after which it refuses the next."""

    repos: dict[str, Repo] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    sent: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    fails: int | None = None
    slow: threading.Event | None = None  # a blob waits for it
    xet: bool = False  # whether large files go to Xet's storage; sent then holds the names of xorbs
    shards: int = 0
    form: bool = True  # ModelScope lays a page into a new repository
    url: str = ""
    turn: threading.Lock = field(default_factory=threading.Lock)  # ModelScope's library sends blobs side by side

    def takes(self, name: str, oid: str, content: bytes) -> bool:
        """Keep a blob, unless `fails` are there already."""
        with self.turn:
            if self.fails is not None and len(self.sent) >= self.fails:
                return False
            self.sent.append(name)
            self.blobs[oid] = content
            return True

    def make(self, name: str, private: bool, branch: str, license: str | None = None) -> None:
        page = {"README.md": "###### 该模型当前使用的是默认介绍模板\n".encode()} if branch == "master" else {}
        self.repos[name] = Repo(private, {branch: {".gitattributes": b"*.safetensors lfs\n", **page}}, license)


def unpacked(xorb: bytes) -> bytes:
    """The chunks of a xorb, stored as they are: a version, 3 bytes of size, the packing (0: none), 3 bytes of size."""
    made, at = b"", 0
    while at + 8 <= len(xorb) and xorb[at : at + 7] != b"XETBLOB":
        size = int.from_bytes(xorb[at + 1 : at + 4], "little")
        assert xorb[at] == 0 and xorb[at + 4] == 0, "is packed"
        made, at = made + xorb[at + 8 : at + 8 + size], at + 8 + size
    return made


def git_oid(content: bytes) -> str:
    """Git's name of a blob."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """One request; the hub is the class's."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        oid = self.path.rpartition("/")[2]
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.hub.slow is not None:
            self.hub.slow.wait()
        assert hashlib.sha256(content).hexdigest() == oid
        if not self.hub.takes(oid, oid, content):
            return self.say({"Message": f"no room for {TOKEN}", "error": f"no room for {TOKEN}"}, 403)
        return self.say({})

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        path, query = unquote(parts.path), parse_qs(parts.query)
        if path == "/":
            return self.say({})
        if path.startswith("/v1/chunks/"):  # nobody else has sent that chunk
            return self.say({}, 404)
        if not self.known():
            return None
        for pattern, answer in (
            (r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", self.hf_info),
            (r"/api/models/([^/]+/[^/]+)/tree/([^/]+).*", self.hf_tree),
            (r"/api/models/([^/]+/[^/]+)/xet-write-token/([^/]+)", self.xet_token),
            (r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.hf_file),
            (r"/(?:openapi/v1|api/v1)/models/([^/]+/[^/]+)", self.ms_info),
            (r"/api/v1/models/([^/]+/[^/]+)/repo/files", self.ms_files),
            (r"/api/v1/models/([^/]+/[^/]+)/repo", self.ms_file),
        ):
            found = re.fullmatch(pattern, path)
            if found:
                if found[1] not in self.hub.repos:
                    return self.say({"Code": 10010205001, "Message": "not found", "error": "Repository not found"}, 404)
                return answer(self.hub.repos[found[1]], *found.groups()[1:], query)
        raise AssertionError(f"GET {self.path}")

    def do_POST(self) -> None:
        body = self.body()
        path = unquote(urlsplit(self.path).path)
        if self.hub.xet and path.startswith(("/v1/", "/v2/")):
            return self.xet_storage(path, body)
        if not self.known():
            return None
        if path == "/api/validate-yaml":
            return self.say({"errors": [], "warnings": []})
        if path == "/api/repos/create":
            return self.hf_create(json.loads(body))
        if path == "/api/v1/models":
            asked = json.loads(body)
            name = f"{asked['Path']}/{asked['Name']}"
            if name in self.hub.repos:
                return self.say({"Code": 10010202001, "Message": "already exists"}, 400)
            self.hub.make(name, asked["Visibility"] == 1, "master", asked["License"])
            return self.say({"Code": 200, "Data": {"Path": asked["Path"], "Name": asked["Name"]}, "Success": True})
        for pattern, answer in (
            (r"/api/models/([^/]+/[^/]+)/branch/(.+)", self.hf_branch),
            (r"/api/models/([^/]+/[^/]+)/preupload/(.+)", self.hf_preupload),
            (r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", self.batch),
            (r"/api/models/([^/]+/[^/]+)/commit/(.+)", self.hf_commit),
            (r"/api/v1/repos/models/([^/]+/[^/]+)/info/lfs/objects/batch", self.batch),
            (r"/api/v1/repos/models/([^/]+/[^/]+)/commit/(.+)", self.ms_commit),
        ):
            found = re.fullmatch(pattern, path)
            if found:
                return answer(self.hub.repos[found[1]], *found.groups()[1:], body)
        raise AssertionError(f"POST {self.path}")

    def known(self) -> bool:
        """Whether the request bears the token."""
        if self.headers.get("Authorization") == f"Bearer {TOKEN}":
            return True
        if self.headers.get("Content-Length"):
            self.close_connection = True
        said = f"who is {self.headers.get('Authorization')}?"
        self.say({"Message": said, "error": said}, 401)
        return False

    def body(self) -> bytes:
        """What was sent, whole or in chunks."""
        if "Transfer-Encoding" not in self.headers:
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        made = b""
        while size := int(self.rfile.readline(), 16):
            made += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return made

    def say(self, answer: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        """Answer with JSON, or with bytes."""
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        if status >= 400:
            self.send_header("X-Error-Message", str(answer))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    # Hugging Face

    def hf_create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        address = {"url": f"{self.hub.url}/{name}"}
        if name in self.hub.repos:
            return self.say({"error": "You already created this model repo", **address}, 409)
        self.hub.make(name, asked.get("visibility") == "private" or bool(asked.get("private")), "main")
        return self.say(address)

    def hf_info(self, repo: Repo, revision: str | None, query: Any) -> None:
        self.say({"id": "x/y", "private": repo.private, "sha": "0" * 40, "tags": [], "downloads": 0, "siblings": []})

    def hf_branch(self, repo: Repo, branch: str, body: bytes) -> None:
        if branch in repo.files:
            return self.say({"error": "exists"}, 409)
        repo.files[branch] = dict(repo.files["main"])
        return self.say({})

    def hf_tree(self, repo: Repo, revision: str, query: Any) -> None:
        found = []
        for path, content in repo.files[revision].items():
            entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": git_oid(content)}
            if path.endswith(LFS):
                sha = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"oid": sha, "size": len(content), "pointerSize": 134}
            found.append(entry)
        self.say(found)

    def hf_file(self, repo: Repo, revision: str, path: str, query: Any) -> None:
        content = repo.files[revision][path]
        self.say(content, headers={"ETag": f'"{git_oid(content)}"', "X-Repo-Commit": "0" * 40})

    def hf_preupload(self, repo: Repo, revision: str, body: bytes) -> None:
        files = json.loads(body)["files"]
        modes = {one["path"]: "lfs" if one["path"].endswith(LFS) else "regular" for one in files}
        self.say({"files": [{"path": path, "shouldIgnore": False, "uploadMode": mode} for path, mode in modes.items()]})

    def hf_commit(self, repo: Repo, revision: str, body: bytes) -> None:
        for line in body.decode().splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                self.hub.messages.append(value["summary"])
            elif entry["key"] == "file":
                repo.files[revision][value["path"]] = base64.b64decode(value["content"])
            else:
                repo.files[revision][value["path"]] = self.hub.blobs[value["oid"]]
        self.say({"commitUrl": f"{self.hub.url}/me/mine/commit/{'1' * 40}", "commitOid": "1" * 40})

    def xet_token(self, repo: Repo, revision: str, query: Any) -> None:
        if not self.hub.xet:
            return self.say({"error": "no such page"}, 404)
        self.say({"casUrl": self.hub.url, "accessToken": XET_TOKEN, "exp": int(time.time()) + 3600})

    def xet_storage(self, path: str, body: bytes) -> None:
        assert self.headers["Authorization"] == f"Bearer {XET_TOKEN}"
        kind, name = path.split("/")[2], path.rpartition("/")[2]
        if kind == "xorbs":
            if self.hub.slow is not None:
                self.hub.slow.wait()
            content = unpacked(body)  # in tests a xorb is a file
            if not self.hub.takes(name, hashlib.sha256(content).hexdigest(), content):
                return self.say({"error": f"no room for {TOKEN}"}, 403)
            return self.say({"was_inserted": True})
        if path == "/v1/shards":
            self.hub.shards += 1
            return self.say({"result": 1})
        self.say({}, 404)  # what newer clients ask first, and what they tell of themselves

    # both

    def batch(self, repo: Repo, body: bytes) -> None:
        objects: list[dict[str, Any]] = []
        for one in json.loads(body)["objects"]:
            upload = {"upload": {"href": f"{self.hub.url}/blob/{one['oid']}"}}
            objects.append({**one, **({} if one["oid"] in self.hub.blobs else {"actions": upload})})
        self.say({"transfer": "basic", "objects": objects, "Data": {"objects": objects}})

    # ModelScope

    def ms_info(self, repo: Repo, query: Any) -> None:
        data = {"Path": "x", "Name": "y", "Visibility": 1 if repo.private else 5}
        self.say({"success": True, "data": data, "Data": data})

    def ms_files(self, repo: Repo, query: Any) -> None:
        files = repo.files.get(query["Revision"][0])
        if files is None:
            return self.say({"Code": 10010205001, "Message": "no such revision"}, 404)
        found = [
            {"Path": path, "Size": len(content), "Type": "blob", "Sha256": hashlib.sha256(content).hexdigest()}
            for path, content in files.items()
        ]
        self.say({"Code": 200, "Data": {"Files": found}})

    def ms_file(self, repo: Repo, query: Any) -> None:
        self.say(repo.files[query.get("Revision", ["master"])[0]][query["FilePath"][0]])

    def ms_commit(self, repo: Repo, revision: str, body: bytes) -> None:
        asked = json.loads(body)
        if revision not in repo.files:
            return self.say({"Code": 10010205001, "Message": "no such revision"}, 404)
        self.hub.messages.append(asked["commit_message"])
        for one in asked["actions"]:
            lfs = one["type"] == "lfs"
            content = self.hub.blobs[one["sha256"]] if lfs else base64.b64decode(one["content"])
            repo.files[revision][one["path"]] = content
        return self.say({"Code": 200, "Success": True, "Data": {}})


def serve(hub: Hub) -> LocalServer:
    """Start it; `hub.url` is its address."""
    handler = type("HubHandler", (Handler,), {"hub": hub})
    server = LocalServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
