"""Which backend serves a place: the only file that knows them all.

Promise: what is no store of ours is refused with what it is, before anything is written.
"""

from __future__ import annotations

from pathlib import Path

from antcache.errors import AlreadyExists, BadConfig, NotAStore, NotFound
from antcache.store.backend import Backend
from antcache.store.format import FORMAT, MARK
from antcache.store.hdf5_backend import Hdf5Backend
from antcache.store.location import Location
from antcache.store.zarr_backend import ZarrBackend

BACKENDS: dict[str, type[Backend]] = {"zarr": ZarrBackend, "hdf5": Hdf5Backend}


def is_empty(place: Location) -> bool:
    """Whether nothing, or an empty folder, is at `place`."""
    path = Path(place)
    return not path.exists() or (path.is_dir() and not any(path.iterdir()))


def find_backend(place: Location, *, memory_map: bool = True) -> Backend:
    """The backend of the store at `place`, whose root may be damaged.

    Raises:
        NotFound: there is nothing.
        NotAStore: it is a file, or another kind of folder.
    """
    path = Path(place)
    if not path.exists():
        raise NotFound("no store here", where=path, hint="check the path, or create the store")
    for kind in BACKENDS.values():
        if kind.recognises(path):
            return kind(path, memory_map=memory_map)
    raise NotAStore(
        "not an antcache store",
        where=path,
        expected="a folder that antcache made",
        found="a file" if path.is_file() else "another folder",
    )


def check_format(backend: Backend) -> None:
    """Raise `NotAStore` unless this version reads the store's format, `DamagedStore` if that can't
    be told."""
    mark = backend.group_attributes("").get(MARK)
    found = mark.get("format") if isinstance(mark, dict) else None
    if found != FORMAT:
        raise NotAStore(
            "the store has a format that this version does not read",
            where=backend.root,
            expected=f"format {FORMAT}",
            found=f"format {found}",
            hint="install the version of antcache that wrote it, or a later one",
        )


def new_backend(place: Location, kind: str | None) -> Backend:
    """A backend for a new store at `place`; `kind` as in `Store.create`.

    Raises:
        AlreadyExists: something is there.
        BadConfig: there is no such kind.
    """
    if not is_empty(place):
        raise AlreadyExists("can't create a store here", where=place, found="something else")
    kind = kind or ("hdf5" if str(place).endswith((".h5", ".hdf5")) else "zarr")
    if kind not in BACKENDS:
        raise BadConfig("unknown backend", expected=" or ".join(BACKENDS), found=kind)
    return BACKENDS[kind](place)
