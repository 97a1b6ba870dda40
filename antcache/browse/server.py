"""The page, served on this machine.

Promise: only GET is answered, from memory and with a strict Content-Security-Policy; no path of a
request is one of the disk. Unless a host was named, requests that were made for another name than
this machine's are refused, so that no page of the web can read along (DNS rebinding).
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Any

from antcache.browse.shelf import Shelf
from antcache.checks import Range, check_types
from antcache.errors import BadConfig, NotFound, needs

if TYPE_CHECKING:
    from starlette.applications import Starlette

HOST = "127.0.0.1"
OURS = ("127.0.0.1", "localhost")
"""Names under which this machine is asked by itself."""
PAGE = {"": "text/html", "browse.css": "text/css", "browse.js": "text/javascript"}
"""What the page is made of; the empty name is the page itself."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}

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


def application(shelf: Shelf, *, hosts: tuple[str, ...] | None = OURS) -> Starlette:
    """The page of a shelf as an ASGI application.

    Args:
        shelf: what it shows.
        hosts: names that requests may be made for; None: any.

    Raises:
        MissingExtra: Starlette is not installed.
    """
    with needs("starlette", "serve"):
        from starlette.applications import Starlette
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware
        from starlette.requests import Request
        from starlette.responses import Response
        from starlette.routing import Route

    def part(name: str) -> Callable[[Request], Response]:
        content, kind = page_file(name), PAGE[name]
        return lambda request: Response(content, media_type=kind, headers=HEADERS)

    def document(request: Request) -> Response:
        try:
            content = shelf.document(request.path_params["name"])
        except NotFound as error:
            return Response(str(error), 404, media_type="text/plain", headers=HEADERS)
        return Response(content, media_type="application/json", headers=HEADERS)

    routes = [Route(f"/{name}", part(name), methods=["GET"]) for name in PAGE]
    routes.append(Route("/data/{name}.json", document, methods=["GET"]))
    allowed = Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts or ("*",)))
    return Starlette(routes=routes, middleware=[allowed])


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
    with needs("uvicorn", "serve"):
        import uvicorn
    made = application(shelf, hosts=None if config.host else OURS)
    with _listening(config.host or HOST, config.port) as listener:
        name = config.host or HOST
        ready(f"http://{f'[{name}]' if ':' in name else name}:{listener.getsockname()[1]}/")
        settings: dict[str, Any] = {"log_level": "warning", "access_log": False, "lifespan": "off"}
        settings |= {"server_header": False, "timeout_graceful_shutdown": 1}
        uvicorn.Server(uvicorn.Config(made, **settings)).run(sockets=[listener])


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        BadConfig: it can't.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()
    except (OSError, UnicodeError, TypeError) as error:  # a name may be none that IDNA can spell
        listener.close()
        raise BadConfig(
            f"can't be listened on ({getattr(error, 'strerror', None) or error})",
            where=f"{host}:{port}",
            hint="choose another `port`, or `host`",
        ) from error
    return listener
