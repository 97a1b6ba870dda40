"""A stand-in hub on loopback: what huggingface_hub asks of one, and faults on request.

It answers for whoami, new repositories, what is in them, uploads (git's and LFS's), commits and
downloads. Who writes needs its token.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

TOKEN = "hf_stand_in"
LARGE = 2000
"""Bytes from which a file lies beside git."""
ENDLESS = 300 << 20
"""Bytes after which a body that never ends does end: a test that fails must not fill the disk."""
SLOW = 2000
"""Bytes of a slow body."""


class Hub:
    """Repositories by (kind, id): commit -> files by name.

    Attributes:
        url: where it listens.
        repos: commits of each repository, in order.
        commits_left: how many commits it takes before it fails; None for any number.
        fetched: names of the files that were downloaded.
        spoiled: pattern of paths -> what is answered in place of the truth: a status, or bytes.
        next_page: whether every page of a list says that it goes on, with itself.
        endless: pattern of paths of files whose bodies never end.
        sent: bytes of such a body that went out, or of a slow one.
        slow: pattern of paths of files that come a byte at a time; what is spoiled waits for such.
    """

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], list[dict[str, bytes]]] = {}
        self.large: dict[str, bytes] = {}
        self.commits_left: int | None = None
        self.fetched: list[str] = []
        self.spoiled: dict[str, int | bytes] = {}
        self.next_page = False
        self.endless = ""
        self.sent = 0
        self.slow = ""
        self.begun = threading.Event()
        self.server = Server(("127.0.0.1", 0), type("Own", (Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def files(self, repo: str, kind: str = "datasets") -> dict[str, bytes]:
        """What is in a repository now."""
        return self.repos[kind, repo][-1]

    def close(self) -> None:
        """Listen no more."""
        self.server.shutdown()
        self.server.server_close()


class Server(ThreadingHTTPServer):
    """One that takes it quietly when a client leaves."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say what went wrong, but for that."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """One request."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def answer(self, status: int, body: Any = None, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        path = unquote(urlsplit(self.path).path)
        if self.hub.slow and re.search(self.hub.slow, path) and self.command == "GET":
            self.drip(headers)
            return
        for pattern, found in self.hub.spoiled.items():
            if re.search(pattern, path):
                if self.hub.slow:
                    self.hub.begun.wait(20)
                status, data = (found, b"{}") if isinstance(found, int) else (status, found)
        if self.hub.endless and re.search(self.hub.endless, path) and self.command == "GET":
            self.pour(headers)
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def pour(self, headers: dict[str, str]) -> None:
        """A body in portions, until nobody wants more."""
        self.send_response(200)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        block = b"x" * (1 << 20)
        with contextlib.suppress(OSError):
            while self.hub.sent < ENDLESS:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(block), block))
                self.hub.sent += len(block)
        self.close_connection = True

    def drip(self, headers: dict[str, str]) -> None:
        """A body a byte at a time, until nobody wants more."""
        self.send_response(200)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(SLOW))
        self.end_headers()
        with contextlib.suppress(OSError):
            while self.hub.sent < SLOW:
                self.wfile.write(b"x")
                self.hub.sent += 1
                self.hub.begun.set()
                time.sleep(0.02)
        self.close_connection = True

    def refuse(self, status: int, code: str) -> None:
        self.answer(status, {"error": code}, X_Error_Code=code, X_Error_Message=code)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            data = b""
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def repo(self, kind: str, name: str) -> list[dict[str, bytes]] | None:
        found = self.hub.repos.get((kind, name))
        if found is None:
            self.refuse(404, "RepoNotFound")
        return found

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if path == "/api/whoami-v2":
            self.answer(200, {"name": "kitchen", "type": "user", "orgs": []})
        elif found := re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)/tree/([^/]+)", path):
            repo = self.repo(found[1], found[2])
            if repo is not None:
                entries = [self.entry(n, d) for n, d in self.at(repo, found[3]).items()]
                link = f'<{self.hub.url}{self.path}>; rel="next"'
                self.answer(200, entries, **({"Link": link} if self.hub.next_page else {}))
        elif found := re.fullmatch(
            r"/api/(models|datasets)/([^/]+/[^/]+)(?:/revision/([^/]+))?", path
        ):
            repo = self.repo(found[1], found[2])
            if repo is not None:
                revision = found[3] or "main"
                if revision not in ("main", *(sha(n) for n in range(len(repo)))):
                    self.refuse(404, "RevisionNotFound")
                    return
                files = self.at(repo, revision)
                self.answer(
                    200,
                    {
                        "id": found[2],
                        "sha": sha(repo.index(files)),
                        "siblings": [{"rfilename": name} for name in files],
                    },
                )
        elif found := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            repo = self.repo(found[1][:-1] if found[1] else "models", found[2])
            if repo is None:
                return
            files = self.at(repo, found[3])
            if found[4] not in files:
                self.refuse(404, "EntryNotFound")
                return
            if self.command == "GET":
                self.hub.fetched.append(found[4])
            data = files[found[4]]
            commit = sha(repo.index(files))
            self.answer(200, data, ETag=f'"{blob(data)}"', X_Repo_Commit=commit)
        else:
            self.refuse(404, "RepoNotFound")

    do_HEAD = do_GET  # noqa: N815

    def at(self, repo: list[dict[str, bytes]], revision: str) -> dict[str, bytes]:
        return repo[-1] if revision == "main" else repo[int(revision, 16)]

    def entry(self, name: str, data: bytes) -> dict[str, Any]:
        entry: dict[str, Any] = {"type": "file", "path": name, "size": len(data), "oid": blob(data)}
        if len(data) >= LARGE:
            oid = hashlib.sha256(data).hexdigest()
            entry["lfs"] = {"oid": oid, "size": len(data), "pointerSize": 130}
        return entry

    def do_PUT(self) -> None:
        data = self.body()
        oid = self.path.removeprefix("/lfs/")
        assert hashlib.sha256(data).hexdigest() == oid
        self.hub.large[oid] = data
        self.answer(200, {})

    def do_POST(self) -> None:
        path, body = unquote(urlsplit(self.path).path), self.body()
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.refuse(401, "Unauthorized")
        elif path == "/api/validate-yaml":
            self.answer(200, {"errors": [], "warnings": []})
        elif path == "/api/repos/create":
            asked = json.loads(body)
            kind = "datasets" if asked.get("type") == "dataset" else "models"
            name = f"{asked['organization']}/{asked['name']}"
            there = (kind, name) in self.hub.repos
            self.hub.repos.setdefault((kind, name), [{}])
            url = f"{self.hub.url}/{'datasets/' if kind == 'datasets' else ''}{name}"
            self.answer(409 if there else 200, {"url": url, "name": name})
        elif found := re.fullmatch(r"/api/(\w+)/([^/]+/[^/]+)/preupload/main", path):
            files = json.loads(body)["files"]
            for file in files:
                mode = "lfs" if file["size"] >= LARGE else "regular"
                file.update(uploadMode=mode, shouldIgnore=False)
                del file["sample"]
            self.answer(200, {"files": files})
        elif path.endswith(".git/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            for each in objects:
                if each["oid"] not in self.hub.large:
                    href = f"{self.hub.url}/lfs/{each['oid']}"
                    each["actions"] = {"upload": {"href": href}}
            self.answer(200, {"transfer": "basic", "objects": objects})
        elif found := re.fullmatch(r"/api/(\w+)/([^/]+/[^/]+)/commit/main", path):
            self.commit(found[1], found[2], body)
        else:
            self.refuse(404, "RepoNotFound")

    def commit(self, kind: str, name: str, body: bytes) -> None:
        if self.hub.commits_left == 0:
            self.refuse(503, "Overloaded")
            return
        if self.hub.commits_left is not None:
            self.hub.commits_left -= 1
        repo = self.hub.repos[kind, name]
        files = dict(repo[-1])
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
        repo.append(files)
        oid = sha(len(repo) - 1)
        url = f"{self.hub.url}/{'datasets/' if kind == 'datasets' else ''}{name}/commit/{oid}"
        self.answer(200, {"commitUrl": url, "commitOid": oid})


def sha(number: int) -> str:
    """The hash of a commit, which here is its number."""
    return f"{number:040x}"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub that huggingface_hub takes for its own, as HF_ENDPOINT would have it, and a token."""
    constants = pytest.importorskip("huggingface_hub.constants")
    made = Hub()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", False)
    point(monkeypatch, made.url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield made
    made.close()


def point(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Let huggingface_hub talk to `url`."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
