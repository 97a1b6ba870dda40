"""A store in a browser: its videos, what happens in them, and what teachers and students expected.

`Shelf` holds what the page shows, `serve` shows it on this machine, `export` writes it as files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from antcache.exports import lazy_exports

if TYPE_CHECKING:
    from antcache.browse.export import export
    from antcache.browse.server import ServerConfig, serve
    from antcache.browse.shelf import Shelf

__all__ = ["ServerConfig", "Shelf", "export", "serve"]

__getattr__, __dir__ = lazy_exports(
    __name__, {"export": "export", "server": "ServerConfig serve", "shelf": "Shelf"}
)
