"""Where the page of a source is served, as an option says it.

Promise: on loopback unless another address is asked for in so many words.
"""

from __future__ import annotations

import re

from antcache.errors import BadConfig
from antcache.serving.listening import LOOPBACK, is_loopback

ADDRESS = re.compile(r"(?:(?P<host>\[[0-9a-fA-F:.%]+\]|[\w.-]+):)?(?P<port>\d{1,5})", re.ASCII)


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
