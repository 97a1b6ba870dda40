"""Which backend serves a place: the only file that knows them all.

Promise: what is no store of ours is refused with what it is, before anything is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from antcache.errors import AlreadyExists, BadConfig, NotAStore, NotFound
from antcache.store.backend import Backend
from antcache.store.format import FORMAT, MARK, STAGING
from antcache.store.local.hdf5_backend import Hdf5Backend
from antcache.store.local.zarr_backend import ZarrBackend
from antcache.store.location import Location
from antcache.store.remote.backend import RemoteZarrBackend

BACKENDS: dict[str, type[Backend]] = {"zarr": ZarrBackend, "hdf5": Hdf5Backend}

Options = Mapping[str, Any] | None
"""For fsspec's filesystem where a store lies at a URL."""


def kind_of(backend: Backend) -> str:
    """Name of a backend's form: zarr or hdf5."""
    if isinstance(backend, RemoteZarrBackend):
        return "zarr"
    return next(name for name, kind in BACKENDS.items() if isinstance(backend, kind))


def is_empty(place: Location, options: Options = None) -> bool:
    """Whether nothing, or an empty folder, is at `place`."""
    if isinstance(place, str):
        return _remote(place, options).files.is_empty()
    _check_local(place, options)
    # A folder with nothing but staging is a store that is being created, or was meant to be.
    return not place.exists() or (
        place.is_dir() and all(path.name == STAGING for path in place.iterdir())
    )


def find_backend(place: Location, *, memory_map: bool = True, options: Options = None) -> Backend:
    """The backend of the store at `place`, whose root may be damaged.

    Raises:
        NotFound: there is nothing.
        NotAStore: it is a file, or another kind of folder.
        Unreachable: `place` is a URL that can't be asked.
    """
    if isinstance(place, str):
        return _find_remote(place, memory_map, options)
    _check_local(place, options)
    if not place.exists():
        raise NotFound("no store here", where=place, hint="check the path, or create the store")
    for kind in BACKENDS.values():
        backend = kind(place, memory_map=memory_map)
        if backend.is_store():
            return backend
    raise _not_a_store(place, "a file" if place.is_file() else "another folder")


def _find_remote(url: str, memory_map: bool, options: Options) -> Backend:
    backend = _remote(url, options, memory_map=memory_map)
    if backend.is_store():
        return backend
    if backend.files.is_empty():
        raise NotFound(
            "no store here",
            where=url,
            hint="check bucket and path, or create the store",
        )
    raise _not_a_store(url, "a file" if backend.files.is_file("") else "another folder")


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


def new_backend(place: Location, kind: str | None, options: Options = None) -> Backend:
    """A backend for a new store at `place`; `kind` as in `Store.create`.

    Raises:
        AlreadyExists: something is there.
        BadConfig: there is no such kind, or it can't lie there.
        Unreachable: `place` is a URL that can't be asked.
    """
    if not is_empty(place, options):
        raise AlreadyExists("can't create a store here", where=place, found="something else")
    kind = kind or ("hdf5" if str(place).endswith((".h5", ".hdf5")) else "zarr")
    if kind not in BACKENDS:
        raise BadConfig("unknown backend", expected=" or ".join(BACKENDS), found=kind)
    if isinstance(place, str):
        if kind != "zarr":
            raise BadConfig("a store at a URL is a Zarr store", where=place, found=kind)
        return _remote(place, options)
    return BACKENDS[kind](place)


def _remote(url: str, options: Options, *, memory_map: bool = True) -> RemoteZarrBackend:
    return RemoteZarrBackend(url, memory_map=memory_map, storage_options=options)


def _check_local(path: Path, options: Options) -> None:
    if options:
        raise BadConfig("storage options are for stores at a URL", where=path, found=list(options))


def _not_a_store(place: Location, found: str) -> NotAStore:
    return NotAStore(
        "not an antcache store",
        where=place,
        expected="a folder that antcache made",
        found=found,
    )
