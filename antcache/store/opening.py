"""How a store is found, made and told apart from everything else.

Promise: what is opened is a store of a format that this version reads, and nothing that is there is
ever taken for an empty place.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from antcache import __version__
from antcache.errors import AlreadyExists, FingerprintMismatch
from antcache.store.backend import Backend
from antcache.store.backends import (
    check_format,
    find_backend,
    is_empty,
    kind_of,
    new_backend,
)
from antcache.store.format import FORMAT, MARK
from antcache.store.location import Location, parse_location


class OpenStore:
    """What `Store` is before anything is in it: a place with a backend, and perhaps a dataset."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    @property
    def path(self) -> Location:
        """Root folder, or URL."""
        return self.backend.root

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        memory_map: bool = True,
        storage_options: Mapping[str, Any] | None = None,
    ) -> Self:
        """Open an existing store.

        Args:
            path: a folder, or a URL.
            memory_map: read uncompressed arrays on a local disk straight from their files; false
                where they lie on a disk that can't be mapped.
            storage_options: for fsspec's filesystem, over its configuration and environment; for
                URLs only.

        Raises:
            NotFound: there is nothing at `path`.
            Unreachable: `path` is a URL that can't be asked.
            NotAStore: it is a file, another kind of folder, or a store of a later format.
            DamagedStore: its root is not as it was written.
        """
        place = parse_location(path)
        backend = find_backend(place, memory_map=memory_map, options=storage_options)
        check_format(backend)
        return cls(backend)

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        dataset: str | None = None,
        backend: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> Self:
        """Create an empty store; `backend` is `zarr` (default) or `hdf5` (default for `.h5`).

        A store at a URL is a Zarr store; `storage_options` as in `open`.

        Raises:
            AlreadyExists: something is at `path` that is not an empty folder.
            BadConfig: there is no such backend, or not at a URL.
            WriteFailed: it can't be written there.
        """
        store = cls(new_backend(parse_location(path), backend, storage_options))
        mark = {"format": FORMAT, "version": __version__}
        known = {} if dataset is None else {"dataset": dataset}
        store.backend.create({MARK: mark, **known})
        return store

    @classmethod
    def open_or_create(
        cls,
        path: str | Path,
        *,
        dataset: str | None = None,
        backend: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> Self:
        """Open the store at `path`, or create it where nothing is.

        Raises:
            NotAStore: something else is there.
            FingerprintMismatch: it is a store of another dataset.
        """
        options = storage_options
        if is_empty(parse_location(path), options):
            with suppress(AlreadyExists):  # another process may create it at the same moment
                return cls.create(path, dataset=dataset, backend=backend, storage_options=options)
        store = cls.open(path, storage_options=options)
        if dataset is not None:
            store._claim(dataset)
        return store

    def _claim(self, dataset: str) -> None:
        """Give the store its dataset, or refuse another one."""
        known = self.dataset
        if known is None:  # another process may be giving it one at the same moment
            known = self.backend.add_group_attributes("", {"dataset": dataset})["dataset"]
        if known != dataset:
            raise FingerprintMismatch(
                "the store belongs to another dataset",
                where=self.path,
                expected=known,
                found=dataset,
                hint="use one store per dataset; without labels and soft targets, importing with "
                "--overwrite gives it another",
            )

    @property
    def dataset(self) -> str | None:
        """Name of the dataset, once labels were imported."""
        name = self.backend.group_attributes("").get("dataset")
        return None if name is None else str(name)

    @property
    def kind(self) -> str:
        """Name of the backend: zarr or hdf5."""
        return kind_of(self.backend)
