"""What serves a page: uvicorn, with the same settings for every page.

Promise: at most `MOST_CONNECTIONS` are open at a time, what is more is refused at once. What
clients send that is no request is no line on a terminal; what fails here is one, by logging.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from antcache.errors import needs

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

MOST_CONNECTIONS = 128
"""Of which a browser has six for each page; systems allow a process 256 files or more."""


def server_of(page: ASGIApp, *, grace_s: int = 1) -> uvicorn.Server:
    """A server for a page, which does not run yet.

    Args:
        page: what answers.
        grace_s: how long open connections have at the end, in seconds.

    Raises:
        MissingExtra: uvicorn is not installed.
    """
    with needs("uvicorn", "serve"):
        import uvicorn
    config = uvicorn.Config(
        page,
        lifespan="off",
        log_config=None,
        log_level=logging.ERROR,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        timeout_graceful_shutdown=grace_s,
        limit_concurrency=MOST_CONNECTIONS,
    )
    return uvicorn.Server(config)
