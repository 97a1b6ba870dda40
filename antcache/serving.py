"""Pages of this machine: where they are served, who may ask for them, and what they may load.

Promise: on loopback unless another address is asked for in so many words. A request counts only if
the name that it was made for is this machine's and can't be chosen by anybody else: an address, or
`localhost`; where the page is open to others, also the name of the machine. So no page of elsewhere
reads it by pointing its own name here (DNS rebinding), by a request of its own, or in a frame.
"""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from antcache.errors import BadConfig, needs

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK = "127.0.0.1"
HOST = re.compile(r"(\[[0-9a-f:.]+\]|[\w.-]+)(?::\d{1,5})?", re.ASCII)
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
"""Of every answer."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; who takes it closes it.

    Args:
        host: an address of this machine, or a name of it.
        port: 0: one that is free.

    Raises:
        BadConfig: the port is in use, or the address is none of this machine.
    """
    try:
        (family, kind, _, _, address), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        found = socket.socket(family, kind)
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(address)
            found.listen(64)
        except BaseException:
            found.close()
            raise
    except (OSError, UnicodeError) as error:  # a name may be none that IDNA can spell
        in_use = getattr(error, "errno", None) == errno.EADDRINUSE
        raise BadConfig(
            "the port is in use" if in_use else "no page can be served there",
            where=f"{host}:{port}",
            found="" if in_use else getattr(error, "strerror", None) or error,
            hint="choose another port; 0 is one that is free" if in_use else "",
        ) from error
    return found


def address_of(listening: socket.socket) -> str:
    """The URL of the page."""
    host, port = listening.getsockname()[:2]
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}/"


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine alone."""
    if host.lower() == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return False


def is_ours(host: str, listening_on: str) -> bool:
    """Whether a `Host` header names this machine, and nobody else can have chosen the name.

    Args:
        host: the header, with or without a port.
        listening_on: the address that the socket has.
    """
    found = HOST.fullmatch(host.strip().lower())
    if found is None:
        return False
    name = found[1].strip("[]")
    if name == "localhost":
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:  # a name; of others only this machine's own, if it is open to others at all
        return not is_loopback(listening_on) and name in (
            socket.gethostname().lower(),
            socket.getfqdn().lower(),
        )
    return address.is_loopback or not is_loopback(listening_on)


def guarded(page: Starlette, listening_on: str) -> ASGIApp:
    """A page that answers those who may ask.

    Args:
        page: answers everybody.
        listening_on: the address that the socket has.
    """
    with needs("starlette", "serve"):
        from starlette.requests import Request

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        refused = _refused(Request(scope), listening_on) if scope["type"] == "http" else None
        await (refused or page)(scope, receive, send)

    return guard


def _refused(request: Request, listening_on: str) -> Response | None:
    """What is answered to who may not ask, None to who may."""
    from starlette.responses import PlainTextResponse

    hosts = request.headers.getlist("host")
    if len(hosts) != 1 or not is_ours(hosts[0], listening_on):
        return PlainTextResponse("not the name of this machine\n", 421, HEADERS)
    elsewhere = request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
    if elsewhere and request.headers.get("sec-fetch-mode") != "navigate":  # no link to it
        return PlainTextResponse("for this page only\n", 403, HEADERS)
    return None
