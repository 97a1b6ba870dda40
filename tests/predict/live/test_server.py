"""The page: its events read by a client and by a browser, and who may not have it."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from antcache.errors import BadConfig
from antcache.predict.live.addresses import address
from antcache.predict.live.broadcast import KEPT, MOST_PAGES, Broadcast
from antcache.predict.live.history import GAP, HeardPast
from antcache.predict.live.server import for_page, serving
from antcache.serving.guard import is_ours
from antcache.serving.listening import listen

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

EVIL = "<script>alert(1)</script>\u202e\x1b[31m & \u2028"
LONG = "has quite a long name"
ABOUT = {"source": "camera 0", "when": "in 1 s"}


def answer(number: int) -> dict[str, Any]:
    names = [
        "take pan",
        EVIL,
        "open a cupboard door that has quite a long name",
        "cut leek",
        "wash",
    ]
    shares = np.exp(np.sin(np.arange(5) * 1.3 + number / 9) * 2)
    shares = np.sort(shares / shares.sum() * 0.9)[::-1]
    order = np.roll(np.arange(5), number // 20)
    top = [
        {"action": int(i), "name": names[i], "probability": float(share)}
        for i, share in zip(order, shares, strict=True)
    ]
    about = {"delay_s": 0.0351, "stand_ins": 0, "dropped": 3, "frames": 25 * number}
    if number >= 80:
        heard = HeardPast(since_s=19.2, ticks=3, silent=1, begun_anew=2, why=GAP)
        about |= {"history": heard.to_dict()}
    return for_page({"time_s": number / 4, "top": top, **about})


class Page:
    """A page that is served, and ways to ask for it."""

    def __init__(self, broadcast: Broadcast, url: str) -> None:
        self.broadcast, self.url = broadcast, url
        self.port = int(url.rstrip("/").rpartition(":")[2])

    def get(
        self, path: str = "/", method: str = "GET", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)) as asked:
            asked.request(
                method, path, headers={k.replace("_", "-"): v for k, v in headers.items()}
            )
            got = asked.getresponse()
            return got.status, {k.lower(): v for k, v in got.getheaders()}, got.read()

    def events(self) -> Iterator[tuple[str, Any]]:
        """Events as they come, of one connection."""
        asked = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with closing(asked):
            asked.request("GET", "/events")
            got = asked.getresponse()
            assert got.status == 200
            assert got.getheader("content-type", "").startswith("text/event-stream")
            kind = ""
            for line in got:
                word, _, rest = line.decode().rstrip("\n").partition(": ")
                if word == "event":
                    kind = rest
                elif word == "data":
                    yield kind, json.loads(rest)


@pytest.fixture
def page() -> Iterator[Page]:
    broadcast = Broadcast(ABOUT)
    with closing(listen("127.0.0.1", 0)) as listening, serving(broadcast, listening) as url:
        yield Page(broadcast, url)
        broadcast.end({"text": "the end"})


def test_events_come_to_a_client_one_by_one(page: Page) -> None:
    for number in range(3):
        page.broadcast.tell(answer(number))
    events = page.events()
    kind, about = next(events)
    assert kind == "about"
    assert about == {**ABOUT, "past": [answer(number) for number in range(3)]}
    for number in range(3, 6):
        page.broadcast.tell(answer(number))
        assert next(events) == ("answer", answer(number))
    page.broadcast.end({"text": "6 answers"})
    assert next(events) == ("end", {"text": "6 answers"})
    assert list(events) == []


def test_a_page_that_comes_late_or_is_slow_gets_the_newest(page: Page) -> None:
    for number in range(3 * KEPT):
        page.broadcast.tell(answer(number))
    events = page.events()
    _, about = next(events)
    assert [each["time_s"] for each in about["past"]] == [
        answer(number)["time_s"] for number in range(2 * KEPT, 3 * KEPT)
    ]
    for number in range(2000, 4000):  # nobody reads meanwhile
        page.broadcast.tell(answer(number))
    page.broadcast.end({"text": "over"})
    rest = list(events)
    assert rest[-1] == ("end", {"text": "over"})
    assert rest[-2] == ("answer", answer(3999))
    assert len(page.broadcast._kept) == KEPT


def test_two_pages_get_the_same_and_leave_without_a_trace(page: Page) -> None:
    first, second = page.events(), page.events()
    assert next(first)[0] == next(second)[0] == "about"
    assert len(page.broadcast._pages) == 2
    page.broadcast.tell(answer(1))
    assert next(first) == next(second) == ("answer", answer(1))
    first.close()
    for number in range(200):  # a closed connection is noticed when something is sent
        page.broadcast.tell(answer(number))
        if len(page.broadcast._pages) == 1:
            break
        time.sleep(0.02)
    assert len(page.broadcast._pages) == 1
    second.close()


def test_there_is_a_limit_to_open_pages(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    open_pages = [page.events() for _ in range(MOST_PAGES)]
    for each in open_pages:
        next(each)
    status, _, body = page.get("/events")
    assert (status, body) == (503, b"32 pages are open already\n")
    assert page.get("/")[0] == 200
    for each in open_pages:
        each.close()


def test_the_page_loads_nothing_from_elsewhere_and_lets_nobody_in(page: Page) -> None:
    for path in ("/", "/watch.css", "/watch.js"):
        status, headers, body = page.get(path)
        assert status == 200
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert not [name for name in headers if name.startswith("access-control-")]
        text = body.decode().replace("http://www.w3.org/2000/svg", "")
        assert "//" not in text.replace("// ", "")
        assert "innerHTML" not in text
    for path in ("/../../setup.py", "/watch.py", "/%2e%2e/%2e%2e/etc/passwd", "/x"):
        assert page.get(path)[0] == 404
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert page.get("/", method)[0] == 405
    assert page.get("/watch.css%0a")[0] in (200, 404)
    for headers in (
        {"Origin": "http://evil.example", "Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "cors"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"},
        {"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "cors"},
    ):
        status, got, _ = page.get("/events", **headers)
        assert status == 403
        assert not [name for name in got if name.startswith("access-control-")]


@pytest.mark.parametrize("path", ["/", "/events", "/watch.js"])
def test_another_name_is_refused(page: Page, path: str) -> None:
    """As a page of elsewhere asks whose name was pointed here (DNS rebinding)."""
    port = page.port
    for name in (
        "evil.example",
        f"evil.example:{port}",
        "127.0.0.1.evil.example",
        "[::1].evil",
        "",
    ):
        assert page.get(path, Host=name)[0] in (400, 421), name
    if path != "/events":
        for name in ("localhost", f"127.0.0.1:{port}", f"[::1]:{port}", "LOCALHOST:1"):
            assert page.get(path, Host=name)[0] == 200, name


@pytest.mark.parametrize(
    ("host", "listening_on", "ours"),
    [
        ("192.168.1.5:8400", "127.0.0.1", False),
        ("192.168.1.5:8400", "0.0.0.0", True),
        ("[fe80::1]:8400", "::", True),
        ("evil.example", "0.0.0.0", False),
        (f"{socket.gethostname()}:8400", "0.0.0.0", True),
        (f"{socket.gethostname()}:8400", "127.0.0.1", socket.gethostname() == "localhost"),
        ("localhost:8400", "0.0.0.0", True),
        ("localhost.", "127.0.0.1", False),
        ("127.0.0.1@evil", "127.0.0.1", False),
    ],
)
def test_whose_name_it_is(host: str, listening_on: str, ours: bool) -> None:
    assert is_ours(host, listening_on) == ours


@pytest.mark.parametrize(
    ("serve", "host", "found"),
    [
        ("8400", None, ("127.0.0.1", 8400)),
        ("127.0.0.1:8400", None, ("127.0.0.1", 8400)),
        ("localhost:0", None, ("localhost", 0)),
        ("[::1]:8400", None, ("::1", 8400)),
        ("8400", "0.0.0.0", ("0.0.0.0", 8400)),
        ("192.168.1.5:8400", "192.168.1.5", ("192.168.1.5", 8400)),
    ],
)
def test_where_a_page_is_served(serve: str, host: str | None, found: tuple[str, int]) -> None:
    assert address(serve, host) == found


@pytest.mark.parametrize(
    ("serve", "host", "said"),
    [
        (
            "0.0.0.0:8400",
            None,
            r"this machine alone.*found 0\.0\.0\.0 \(--host 0\.0\.0\.0 open",
        ),
        ("camera.local:8400", None, "for this machine alone"),
        ("70000", None, "impossible `serve`: expected a port from 0 to 65535"),
        ("", None, "impossible `serve`"),
        (":8400", None, "impossible `serve`"),
        ("127.0.0.1", None, "impossible `serve`"),
        ("http://127.0.0.1:8400", None, "impossible `serve`"),
        ("127.0.0.1:8400", "0.0.0.0", "name two addresses"),
    ],
)
def test_nothing_is_opened_to_others_by_mistake(serve: str, host: str | None, said: str) -> None:
    with pytest.raises(BadConfig, match=said):
        address(serve, host)


def test_a_port_in_use_is_said(page: Page) -> None:
    with pytest.raises(BadConfig, match=rf"127\.0\.0\.1:{page.port}: the port is in use \(choose"):
        listen("127.0.0.1", page.port)
    with pytest.raises(BadConfig, match=r"192\.0\.2\.1:0: no page can be served there: found "):
        listen("192.0.2.1", 0)


LOGGED = ("--enable-logging=stderr", "--v=0")


def looked_at(browser: Any, *options: str) -> Any:
    """A page whose source ends while somebody looks: the browser waits for that."""
    broadcast = Broadcast(ABOUT)
    for number in range(60):
        broadcast.tell(answer(number))
    done = threading.Event()

    def go_on() -> None:
        number = 60
        while not done.wait(0.03):
            if broadcast._pages:
                broadcast.tell(answer(number))
                number += 1
            if number == 90:
                break
        broadcast.end({"text": "90 answers in 22.5 s"})

    with closing(listen("127.0.0.1", 0)) as listening, serving(broadcast, listening) as url:
        thread = threading.Thread(target=go_on)
        thread.start()
        try:
            return browser.run(url, "--virtual-time-budget=3000", *options)
        finally:
            done.set()
            thread.join()


@pytest.mark.slow
def test_the_page_in_a_browser(browser: Any, tmp_path: Path) -> None:
    """Narrow and wide, light and dark; nothing complains, nothing is wider than the screen."""
    dom = looked_at(browser, "--dump-dom", *LOGGED)
    pictures = {}
    for width in (400, 1400):
        for scheme in ("light", "dark"):
            file = tmp_path / f"{scheme}-{width}.png"
            dark = ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []
            size = ["--hide-scrollbars", f"--window-size={width},1200"]
            looked_at(browser, *dark, *size, f"--screenshot={file}")
            pictures[scheme, width] = np.asarray(Image.open(file).convert("RGB"))
    said = [line for line in dom.stderr.splitlines() if "CONSOLE" in line]
    assert said == []
    text = dom.stdout
    assert "camera 0" in text
    assert "open a cupboard door" in text
    assert "&lt;script&gt;alert(1)" in text
    assert "<script>alert" not in text
    assert r"\u202e\x1b[31m" in text
    assert text.count("<li>") == 5 + text.count("<li><svg")
    assert "35 ms" in text
    assert "90 answers in 22.5 s" in text
    assert "since 19.2 s, 1 of 3 ticks silent, begun anew behind a gap" in text
    for (scheme, width), picture in pictures.items():
        assert picture.shape[1] == width
        ground = picture[5, 5].mean()
        assert ground < 60 if scheme == "dark" else ground > 220
        assert (picture != picture[5, 5]).any(axis=2).mean() > 0.02
        assert (picture[:, -4:] == picture[5, 5]).all()  # nothing runs over the edge
