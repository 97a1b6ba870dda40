"""Which backend serves a place: the only file that knows them all.

Promise: what is no store of ours is refused with what it is, before anything is written.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from antcache import __version__
from antcache.checks import one_of
from antcache.errors import AlreadyExists, BadConfig, NotAStore, NotFound
from antcache.files import found_at
from antcache.store.backend import Attributes, Backend
from antcache.store.format import FORMATS, MARK, STAGING
from antcache.store.local.hdf5_backend import Hdf5Backend
from antcache.store.local.zarr_backend import ZarrBackend
from antcache.store.location import Location
from antcache.store.remote.backend import RemoteZarrBackend

BACKENDS = {kind.form: kind for kind in (ZarrBackend, Hdf5Backend)}

Options = Mapping[str, Any] | None
"""For fsspec's filesystem where a store lies at a URL."""


def is_empty(place: Location, options: Options = None) -> bool:
    """Whether nothing is at `place`, or a folder with at most what killed writers left."""
    if isinstance(place, str):
        return RemoteZarrBackend(place, storage_options=options).files.is_empty()
    _check_local(place, options)
    # A folder with nothing but staging is a store that is being created, or was meant to be.
    return not found_at(place, (STAGING,))


def find_backend(place: Location, *, memory_map: bool = True, options: Options = None) -> Backend:
    """The backend of the store at `place`, whose root may be damaged.

    Raises:
        NotFound: there is nothing.
        NotAStore: it is a file, or another kind of folder.
        Unreachable: `place` is a URL that can't be asked.
    """
    if isinstance(place, str):
        remote = RemoteZarrBackend(place, storage_options=options)
        if remote.is_store():
            return remote
        gone, is_file, check = remote.files.is_empty(), remote.files.is_file(""), "bucket and path"
    else:
        _check_local(place, options)
        for kind in BACKENDS.values():
            backend = kind(place, memory_map=memory_map)
            if backend.is_store():
                return backend
        gone, is_file, check = not os.path.lexists(place), place.is_file(), "the path"
    if gone:
        raise NotFound("no store here", where=place, hint=f"check {check}, or create the store")
    raise NotAStore(
        "not an antcache store",
        where=place,
        expected="a folder that antcache made",
        found="a file" if is_file else "another folder",
    )


def check_format(backend: Backend) -> None:
    """Raise `NotAStore` unless this version reads the store's format, `DamagedStore` if that can't
    be told."""
    found = format_of(backend.group_attributes(""))
    if type(found) is not int or found not in FORMATS:  # True is no 1
        raise NotAStore(
            "the store has a format that this version does not read",
            where=backend.root,
            expected=f"format {' or '.join(map(str, FORMATS))}",
            found=f"format {found!r:.80}",
            hint="install the version of antcache that wrote it, or a later one",
        )


def format_of(root: Attributes) -> Any:
    """What the attributes of a root say of the store's format."""
    mark = root.get(MARK)
    return mark.get("format") if isinstance(mark, dict) else None


def raise_format(backend: Backend, number: int) -> None:
    """Let the store be of this format at least, before anything is written that makes it so.

    Killed in between, a store says more than it is. It never says less: a version that does not
    read the format refuses it from then on. Of several processes, each finds it done, or does it.

    Raises:
        NotAStore: this version does not read it.
        WriteFailed: the disk refused; nothing was changed.
    """
    check_format(backend)

    def raised(root: Attributes) -> Attributes:
        if format_of(root) >= number:
            return root
        return {**root, MARK: {**root[MARK], "format": number, "version": __version__}}

    backend.change_group("", raised)


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
    one_of("backend", kind, BACKENDS)
    if isinstance(place, str):
        if kind != "zarr":
            raise BadConfig("a store at a URL is a Zarr store", where=place, found=kind)
        return RemoteZarrBackend(place, storage_options=options)
    return BACKENDS[kind](place)


def _check_local(path: Path, options: Options) -> None:
    if options:
        raise BadConfig("storage options are for stores at a URL", where=path, found=list(options))
