"""Who may ask for a page, and what it may load.

Promise: a request counts only if the name that it was made for is this machine's and can't be
chosen by anybody else: an address, or `localhost`; where the page is open to others, also the name
of the machine. So no page of elsewhere reads it by pointing its own name here (DNS rebinding), by a
request of its own, or in a frame.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import TYPE_CHECKING

from antcache.errors import needs
from antcache.serving.listening import is_loopback

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
"""Of every answer, whoever made it."""


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
        await (refused or page)(scope, receive, _with_headers(send))

    return guard


def _with_headers(send: Send) -> Send:
    """`send` with `HEADERS` in each answer: also in those that Starlette makes by itself."""
    own = {name.encode("ascii"): value.encode("ascii") for name, value in HEADERS.items()}

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            there = [pair for pair in message.get("headers", []) if pair[0].lower() not in own]
            message = {**message, "headers": [*there, *own.items()]}
        await send(message)

    return sent


def _refused(request: Request, listening_on: str) -> Response | None:
    """What is answered to who may not ask, None to who may."""
    from starlette.responses import PlainTextResponse

    hosts = request.headers.getlist("host")
    if len(hosts) != 1 or not is_ours(hosts[0], listening_on):
        return PlainTextResponse("not the name of this machine\n", 421)
    elsewhere = request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
    if elsewhere and request.headers.get("sec-fetch-mode") != "navigate":  # no link to it
        return PlainTextResponse("for this page only\n", 403)
    return None
