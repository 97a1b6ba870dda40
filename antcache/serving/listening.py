"""Where a page is served: a socket, and the URL that it has.

Promise: on loopback unless another address is asked for in so many words.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from contextlib import suppress

from antcache.errors import BadConfig

LOOPBACK = "127.0.0.1"


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
