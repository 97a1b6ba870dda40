"""The page, served on this machine.

Promise: only GET is answered, from memory and with a strict Content-Security-Policy; no path of a
request is one of the disk. Who may ask is `serving`'s to say.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated

from antcache.browse.shelf import Shelf
from antcache.checks import Range, check_types
from antcache.errors import NotFound, needs
from antcache.serving.guard import guarded
from antcache.serving.listening import LOOPBACK, address_of, listen
from antcache.serving.running import server_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp

PAGE = {"": "text/html", "browse.css": "text/css", "browse.js": "text/javascript"}
"""What the page is made of; the empty name is the page itself."""
Port = Annotated[int, Range(0, 65535)]


@dataclass(frozen=True, kw_only=True)
class BrowseConfig:
    """Where the page is served."""

    host: str | None = None
    """Name or address to listen on; None: this machine alone, under its own names."""
    port: Port = 8410
    """TCP port; 0: any that is free."""

    def __post_init__(self) -> None:
        check_types(self)


def page_file(name: str) -> bytes:
    """A part of the page, by its name in `PAGE`."""
    return files("antcache.browse").joinpath(name or "browse.html").read_bytes()


def application(shelf: Shelf, listening_on: str = LOOPBACK) -> ASGIApp:
    """The page of a shelf as an ASGI application.

    Args:
        shelf: what it shows.
        listening_on: the address that it is served at.

    Raises:
        MissingExtra: Starlette is not installed.
    """
    with needs("starlette", "serve"):
        from starlette.applications import Starlette
        from starlette.concurrency import run_in_threadpool
        from starlette.requests import Request
        from starlette.responses import Response
        from starlette.routing import Route

    def part(name: str) -> Callable[[Request], Response]:
        content, kind = page_file(name), PAGE[name]
        return lambda request: Response(content, media_type=kind)

    async def document(request: Request) -> Response:
        gone = threading.Event()

        async def listen_on() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            gone.set()

        listening = asyncio.create_task(listen_on())
        try:
            name = request.path_params["name"]
            content = await run_in_threadpool(shelf.document, name, gone.is_set)
        except NotFound as error:
            return Response(str(error), 404, media_type="text/plain")
        finally:
            gone.set()
            listening.cancel()
        return Response(content, media_type="application/json")

    routes = [Route(f"/{name}", part(name), methods=["GET"]) for name in PAGE]
    routes.append(Route("/data/{name}.json", document, methods=["GET"]))
    return guarded(Starlette(routes=routes), listening_on)


def serve(
    shelf: Shelf,
    config: BrowseConfig | None = None,
    *,
    ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve the page until the process is interrupted.

    Args:
        shelf: what it shows.
        config: where.
        ready: called with the page's address once it is listened on.

    Raises:
        BadConfig: the port is in use, or the host is none of this machine.
        MissingExtra: Starlette or uvicorn is not installed.
    """
    config = config or BrowseConfig()
    with listen(config.host or LOOPBACK, config.port) as listening:
        server = server_of(application(shelf, listening.getsockname()[0]))
        ready(address_of(listening))
        server.run(sockets=[listening])
