"""A store in a browser: its videos, what happens in them, what teachers and students expected.

`Shelf` holds what the page shows, `serve` shows it on this machine, `export_pages` writes files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from antcache.exports import lazy_exports

if TYPE_CHECKING:
    from antcache.browse.export import export_pages
    from antcache.browse.server import BrowseConfig, serve
    from antcache.browse.shelf import Shelf

__all__ = ["BrowseConfig", "Shelf", "export_pages", "serve"]

__getattr__, __dir__ = lazy_exports(
    __name__, {"export": "export_pages", "server": "BrowseConfig serve", "shelf": "Shelf"}
)
