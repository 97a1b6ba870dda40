"""Where a page is served, and who may ask for it.

Promise: on loopback unless another address is asked for in so many words. A request counts only if
the name that it was made for is this machine's and can't be chosen by anybody else: an address, or
`localhost`; where the page is open to others, also the name of the machine.
"""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
from contextlib import suppress

from antcache.errors import BadConfig

LOOPBACK = "127.0.0.1"
ADDRESS = re.compile(r"(?:(?P<host>\[[0-9a-fA-F:.%]+\]|[\w.-]+):)?(?P<port>\d{1,5})", re.ASCII)

HOST = re.compile(r"(\[[0-9a-f:.]+\]|[\w.-]+)(?::\d{1,5})?", re.ASCII)


def address(serve: str, host: str | None) -> tuple[str, int]:
    """Where the page is to be served.

    Args:
        serve: a port, or an address of this machine that others can't reach, and a port.
        host: an address that may be reached from elsewhere, in place of that; None: nobody asked
            for one.

    Raises:
        BadConfig: it is no such address, or one that others reach, and `host` does not say so.
    """
    found = ADDRESS.fullmatch(serve)
    port = int(found["port"]) if found else -1
    if found is None or not 0 <= port < 1 << 16:
        raise BadConfig(
            "impossible `serve`",
            expected="a port from 0 to 65535, as 8400 or 127.0.0.1:8400",
            found=f"{serve:.80}",
        )
    named = found["host"] and found["host"].strip("[]")
    if host is not None and named not in (None, host):
        raise BadConfig("`serve` and `host` name two addresses", found=f"{named} and {host}")
    if host is None and named is not None and not is_loopback(named):
        raise BadConfig(
            "`serve` is for this machine alone",
            expected="127.0.0.1, ::1 or localhost",
            found=named,
            hint=f"--host {named} opens the page, which has no password, to whoever reaches that",
        )
    return host or named or LOOPBACK, port


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
