"""Where a store lies: a folder on a local disk, or a URL that fsspec understands.

Promise: the same text means the same place everywhere, on the command line and in the library.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from antcache.errors import BadConfig

Location = Path | str
"""A local `Path`, or a URL such as `s3://bucket/kitchen.zarr`."""

LOCAL = ("file://", "local://")


def parse_location(text: str | Path) -> Location:
    """`text` as a URL if it has a scheme (`file://` counts as local), else as a path.

    Raises:
        BadConfig: it is empty: as a path that would be the current folder.
    """
    if text in ("", *LOCAL):
        raise BadConfig("a path that is empty", expected="a path or a URL", hint="here is .")
    if isinstance(text, Path) or "://" not in text:
        return Path(text)
    for scheme in LOCAL:
        if text.startswith(scheme):
            return Path(text.removeprefix(scheme))
    scheme, _, rest = text.partition("://")
    return f"{scheme}://{rest.rstrip('/')}"


def removing(store: Location, *keys: str) -> str:
    """The command that removes what has these keys, for a hint: as a shell takes it."""
    return shlex.join(["antcache", "store", "remove", str(store), *keys])


def beside(store: Location, ending: str) -> Path:
    """The file beside the store that is called like it, with another ending.

    For a store at a URL it lies in the current folder.
    """
    if isinstance(store, str):
        return Path(store.rpartition("/")[2] + ending)
    folder = Path(os.path.realpath(store))  # the store may be given as "."
    return folder.with_name(folder.name + ending)
