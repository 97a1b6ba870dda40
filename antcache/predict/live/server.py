"""A page that shows the answers as they come, on this machine.

Promise: who may ask is `serving`'s to say. The page loads nothing from elsewhere, and text from
data is never markup on it. Nothing can be changed through it.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antcache.errors import needs
from antcache.predict.answers import when
from antcache.predict.live.broadcast import MOST_PAGES, Broadcast
from antcache.serving.guard import guarded
from antcache.serving.listening import address_of
from antcache.serving.running import server_of
from antcache.text import plain

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp

    from antcache.predict.live.watching import Watch

GRACE_S = 2.0
"""How long open connections have at the end."""

FILES = {
    "/": ("watch.html", "text/html; charset=utf-8"),
    "/watch.css": ("watch.css", "text/css; charset=utf-8"),
    "/watch.js": ("watch.js", "text/javascript; charset=utf-8"),
}


def about(watch: Watch) -> dict[str, Any]:
    """What a page is told first."""
    place, student = watch.place, watch.anticipator
    name = place.name if isinstance(place, Path) else str(place)
    return {"source": plain(name), "when": when(student.gap_s, student.protocol.anchor)}


def for_page(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer whose names hide nothing."""
    top = [{**each, "name": plain(each["name"])} for each in answer["top"]]
    return {**answer, "top": top}


def app(broadcast: Broadcast, listening_on: str) -> ASGIApp:
    """The page, its script and style, and its events.

    Args:
        broadcast: what the page is told.
        listening_on: the address that it is served at.

    Raises:
        MissingExtra: Starlette is not installed.
    """
    with needs("starlette", "serve"):
        from starlette.applications import Starlette
        from starlette.responses import PlainTextResponse, Response, StreamingResponse
        from starlette.routing import Route

    here = files("antcache.predict.live")

    def file(name: str, kind: str) -> Callable[[Request], Response]:
        return lambda request: Response((here / name).read_bytes(), media_type=kind)

    def events(request: Request) -> Response:
        if broadcast.is_full:
            text = f"{MOST_PAGES} pages are open already\n"
            return PlainTextResponse(text, 503)

        async def sent() -> AsyncIterator[str]:
            async for event in broadcast.events():
                yield event

        return StreamingResponse(sent(), media_type="text/event-stream")

    routes = [Route(path, file(*about), methods=["GET"]) for path, about in FILES.items()]
    page = Starlette(routes=[*routes, Route("/events", events, methods=["GET"])])
    return guarded(page, listening_on)


@contextmanager
def serving(broadcast: Broadcast, listening: socket.socket) -> Iterator[str]:
    """Serve the page in a thread of its own; its URL. At the end open pages are let go.

    Raises:
        MissingExtra: Starlette or uvicorn is not installed.
    """
    page = app(broadcast, listening.getsockname()[0])
    server = server_of(page, grace_s=round(GRACE_S))
    thread = threading.Thread(
        target=server.run, args=([listening],), name="antcache-page", daemon=True
    )
    thread.start()
    try:
        yield address_of(listening)
    finally:
        server.should_exit = True
        thread.join(3 * GRACE_S)
