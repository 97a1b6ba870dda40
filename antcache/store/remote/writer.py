"""Writes one unit at a URL: everything else first, the `zarr.json` that makes it visible last.

Promise: what becomes visible was read back and is what was written, all of it by the holder of the
unit's claim. What fails takes away what it wrote.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress

from antcache.errors import AlreadyExists, AntcacheError
from antcache.store.faults import not_as_written
from antcache.store.format import join
from antcache.store.reading.proof import uncounted
from antcache.store.remote.claim import Claim, in_staging
from antcache.store.remote.files import RemoteFiles, batches
from antcache.store.remote.index import StreamIndex
from antcache.store.zarr_unit import ZARR_JSON, damaged_parts

NEW = ".new"
"""Ending of a folder in staging: what will replace a unit."""


class UnitWriter:
    """Writes the unit `key`, whose claim the caller holds."""

    def __init__(self, files: RemoteFiles, key: str, claim: Claim) -> None:
        self._files = files
        self._key = key
        self._claim = claim
        self._name = join(key, ZARR_JSON)
        self._index = StreamIndex(files, key.rpartition("/")[0])

    def publish(self, files: Mapping[str, bytes], *, replace: bool) -> None:
        """Write a unit's files; `replace` says whether a unit is there, which they replace.

        Raises:
            AlreadyExists: another process took over.
            DamagedStore: what was read back is not what was written.
        """
        data = _data(files)
        with self._or_nothing():
            if self._claim.taken_over:
                clear(self._files, in_staging(self._key, NEW))
            if replace:
                with self.staged(files):
                    self.hide()
                    self.place(files)
            else:
                clear(self._files, self._key, keep=data)
                self._upload(self._key, data)
                self._show(files[ZARR_JSON])
        if not self._claim.ours():  # taken for dead in the very last moment
            self._index.drop()
            if self._damaged():
                self._files.delete(self._name)
                raise not_as_written(self._where)

    @property
    def _where(self) -> str:
        return f"{self._files.url}: {self._key}"

    def _upload(self, folder: str, files: Mapping[str, bytes]) -> None:
        """Write objects into a folder and read them back."""
        for batch in batches({name: len(value) for name, value in files.items()}):
            self._files.write_many({join(folder, name): files[name] for name in batch})
            self._check(folder, {name: files[name] for name in batch})
            self._claim.renew()

    def _check(self, folder: str, files: Mapping[str, bytes]) -> None:
        """Raise `DamagedStore` unless a folder holds these objects."""
        for batch in batches({name: len(value) for name, value in files.items()}):
            found = self._files.read_many(join(folder, name) for name in batch)
            if found != [files[name] for name in batch]:
                raise not_as_written(self._where)

    @contextmanager
    def staged(self, files: Mapping[str, bytes]) -> Iterator[None]:
        """A unit's files lie in staging, checked, until the context ends."""
        staged = in_staging(self._key, NEW)
        try:
            self._upload(staged, _data(files))
            yield
        finally:
            with suppress(AntcacheError):  # what is left there is found by the next writer
                clear(self._files, staged)

    def hide(self) -> None:
        """Take the unit that is there out of sight; nothing of it is removed yet."""
        self._index.drop()
        self._files.delete(self._name)

    def place(self, files: Mapping[str, bytes]) -> None:
        """Put what is staged in the place of the unit that is hidden, and show it."""
        data, staged = _data(files), in_staging(self._key, NEW)
        clear(self._files, self._key, keep=data)
        names = {join(staged, name): join(self._key, name) for name in data}
        if not self._files.copy_many(names):
            self._upload(self._key, data)
        self._check(self._key, data)
        self._claim.renew()
        self._show(files[ZARR_JSON])

    def _show(self, document: bytes) -> None:
        """Make the unit visible, whose other objects are in their place."""
        self._index.drop()
        try:
            self._files.create(self._name, document)
        except FileExistsError as error:
            raise AlreadyExists("already in the store", where=self._where) from error
        if self._files.read(self._name) != document:
            self._files.delete(self._name)
            raise not_as_written(self._where)

    def _damaged(self) -> bool:
        return bool(
            damaged_parts(
                lambda: self._files.read(self._name),
                lambda names: self._files.digests(self._key, names, uncounted),
            )
        )

    @contextmanager
    def _or_nothing(self) -> Iterator[None]:
        """Take away what was written of a unit that did not become visible."""
        try:
            yield
        except Exception:
            with suppress(AntcacheError):
                if self._claim.ours() and not self._files.is_file(self._name):
                    clear(self._files, self._key)
            raise


def _data(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """A unit's files without the one that makes it visible."""
    return {name: value for name, value in files.items() if name != ZARR_JSON}


def clear(files: RemoteFiles, folder: str, keep: Collection[str] = ()) -> None:
    """Delete what is in a folder, but for some names."""
    for name in files.sizes(folder):
        if name not in keep:
            files.delete(join(folder, name))
