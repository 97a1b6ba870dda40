"""What is answered to whom, and where it is listened."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from antcache.browse import BrowseConfig, Shelf, serve
from antcache.browse.server import application
from antcache.errors import BadConfig, MissingExtra
from antcache.serving.guard import HEADERS, POLICY
from antcache.store import Store

testclient = pytest.importorskip("starlette.testclient", reason="needs starlette and httpx")


@pytest.fixture(scope="module")
def shelf(browsed: Path) -> Shelf:
    return Shelf(Store.open(browsed / "kitchen.zarr"), runs=[browsed / "runs/plain"])


@pytest.fixture(scope="module")
def client(shelf: Shelf) -> Any:
    return testclient.TestClient(application(shelf), base_url="http://127.0.0.1:8410")


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/browse.js", "text/javascript; charset=utf-8"),
        ("/browse.css", "text/css; charset=utf-8"),
        ("/data/list.json", "application/json"),
    ],
)
def test_parts_of_the_page(client: Any, path: str, kind: str) -> None:
    found = client.get(path)
    assert found.status_code == 200
    assert found.headers["content-type"] == kind
    assert found.headers["content-security-policy"] == POLICY
    assert found.headers["x-content-type-options"] == "nosniff"
    assert found.headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in found.headers
    assert client.post(path).status_code == 405


def test_the_policy_allows_nothing_from_elsewhere() -> None:
    for directive in POLICY.split("; "):
        assert set(directive.split()[1:]) <= {"'none'", "'self'", "data:"}
    assert "script-src 'self';" in POLICY
    assert "default-src 'none';" in POLICY


def test_documents_are_those_of_the_shelf(client: Any, shelf: Shelf) -> None:
    for name in ("list", "classes", "video-3", "figures-2", "guesses-2-8"):
        assert client.get(f"/data/{name}.json").content == shelf.document(name)


@pytest.mark.parametrize(
    "path",
    [
        "/data/video-10.json",
        "/data/..%2f..%2fsetup.json",
        "/data/%00.json",
        "/data/list",
        "/../setup.py",
        "/server.py",
        "/data/<script>.json",
    ],
)
def test_all_else_is_not_there(client: Any, path: str) -> None:
    found = client.get(path)
    assert found.status_code == 404
    assert found.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/none", 404),
        ("GET", "/data/list.json/", 307),
        ("GET", "/data/none.json", 404),
        ("POST", "/", 405),
        ("TRACE", "/data/list.json", 405),
        ("GET", "/data/classes.json", 500),
    ],
)
def test_every_answer_has_the_headers(
    browsed: Path, monkeypatch: pytest.MonkeyPatch, method: str, path: str, code: int
) -> None:
    """Those that Starlette makes by itself, and that of a mistake of ours, too."""
    own = Shelf(Store.open(browsed / "kitchen.zarr"))
    monkeypatch.setattr(type(own.catalog), "classes", lambda self: 1 / 0)
    page = testclient.TestClient(
        application(own), base_url="http://127.0.0.1", raise_server_exceptions=False
    )
    found = page.request(method, path, follow_redirects=False)
    assert found.status_code == code
    assert {name: found.headers.get(name) for name in HEADERS} == HEADERS
    assert all(len(found.headers.get_list(name)) == 1 for name in HEADERS)


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("127.0.0.1:8410", 200),
        ("localhost:8410", 200),
        ("localhost", 200),
        ("[::1]:8410", 200),
        ("evil.example:8410", 421),
        ("127.0.0.1.evil.example", 421),
        ("", 421),
    ],
)
def test_the_page_of_another_name_is_refused(
    client: Any, shelf: Shelf, host: str, code: int
) -> None:
    """As after DNS rebinding; where the page is open to others, too."""
    assert client.get("/data/list.json", headers={"host": host}).status_code == code
    open_to_all = testclient.TestClient(application(shelf, "0.0.0.0"))
    assert open_to_all.get("/data/list.json", headers={"host": host}).status_code == code
    assert open_to_all.get("/", headers={"host": "192.0.2.7:8410"}).status_code == 200
    assert client.get("/", headers={"host": "192.0.2.7:8410"}).status_code == 421


def test_it_is_served(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """By uvicorn, on a port that is free, to this machine alone."""
    import uvicorn

    servers, addresses, ready = [], [], threading.Event()
    usual = uvicorn.Server.__init__

    def kept(self: Any, *given: Any) -> None:
        usual(self, *given)
        servers.append(self)

    monkeypatch.setattr(uvicorn.Server, "__init__", kept)

    def say(address: str) -> None:
        addresses.append(address)
        ready.set()

    thread = threading.Thread(
        target=serve, args=(shelf, BrowseConfig(port=0)), kwargs={"ready": say}
    )
    thread.start()
    assert ready.wait(30)
    assert addresses[0].startswith("http://127.0.0.1:")
    with urllib.request.urlopen(addresses[0] + "data/list.json", timeout=30) as answer:
        assert len(json.load(answer)["videos"]) == 10
    servers[0].should_exit = True
    thread.join(30)
    assert not thread.is_alive()


def test_who_has_gone_is_waited_for_no_longer(
    browsed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a page goes that leaves a video: pictures of a long one are made no further."""
    own, seen = Shelf(Store.open(browsed / "kitchen.zarr")), []

    def document(name: str, gone: Callable[[], bool]) -> bytes:
        until = time.monotonic() + 20
        while not gone() and time.monotonic() < until:
            time.sleep(0.01)
        seen.append(gone())
        return b"{}"

    monkeypatch.setattr(own, "document", document)

    async def ask() -> None:
        messages = [{"type": "http.request", "body": b""}, {"type": "http.disconnect"}]

        async def receive() -> Any:
            return messages.pop(0)

        async def send(message: Any) -> None:
            """Nobody reads it."""

        scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/data/strip-0.json"}
        scope |= {"query_string": b"", "headers": [(b"host", b"localhost")]}
        await application(own)(scope, receive, send)

    asyncio.run(ask())
    assert seen == [True]


def test_a_port_in_use_is_said(shelf: Shelf) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(BadConfig, match=f"127.0.0.1:{port}: the port is in use"):
            serve(shelf, BrowseConfig(port=port))
    with pytest.raises(BadConfig, match=r"192\.0\.2\.1:0: no page can be served"):
        serve(shelf, BrowseConfig(host="192.0.2.1", port=0))
    with pytest.raises(BadConfig, match=r"no page can be served"):
        serve(shelf, BrowseConfig(host="\u00e9" * 70, port=0))
    with pytest.raises(BadConfig, match="port"):
        BrowseConfig(port=65536)


@pytest.mark.parametrize("package", ["starlette", "uvicorn"])
def test_a_missing_package_is_named(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=rf"'{package}' is not installed.*antcache\[serve\]"):
        serve(shelf, BrowseConfig(port=0))
