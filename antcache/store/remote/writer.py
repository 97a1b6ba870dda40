"""Writes one unit at a URL: everything else first, the `zarr.json` that makes it visible last.

Promise: what becomes visible was read back and is what was written, all of it by the holder of the
unit's claim. What fails takes away what it wrote. Files are made while they are sent, and one batch
of them is held.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from antcache.errors import AlreadyExists, AntcacheError, DamagedStore
from antcache.store.backend import Attributes
from antcache.store.faults import not_as_written, require_written
from antcache.store.format import Arrays, join
from antcache.store.reading.proof import uncounted
from antcache.store.remote.claim import Claim, in_staging
from antcache.store.remote.files import RemoteFiles, batches
from antcache.store.remote.index import StreamIndex
from antcache.store.remote.source import opened
from antcache.store.zarr_unit import ZARR_JSON, damaged_parts, encode, unit_of

NEW = ".new"
"""Ending of a folder in staging: what will replace a unit."""


@dataclass(frozen=True, kw_only=True)
class NewUnit:
    """What a unit is to hold.

    Attributes:
        arrays: its arrays.
        attributes: its attributes.
        compressed: whether the arrays are stored so.
    """

    arrays: Arrays
    attributes: Attributes
    compressed: bool = False

    def batches(self) -> Iterator[list[tuple[str, bytes]]]:
        """Its files with their names, as many as may be under way at once; `zarr.json` is last."""
        files = encode(self.arrays, self.attributes, compressed=self.compressed)
        return batches(files, lambda file: len(file[1]))


@dataclass(frozen=True)
class SentUnit:
    """A unit whose files were sent and read back, but for the one that makes it visible.

    Attributes:
        document: that one.
        hashes: of the others, by their names.
    """

    document: bytes
    hashes: dict[str, str]


class UnitWriter:
    """Writes the unit `key`, whose claim the caller holds."""

    def __init__(self, files: RemoteFiles, key: str, claim: Claim) -> None:
        self._files = files
        self._key = key
        self._claim = claim
        self._name = join(key, ZARR_JSON)
        self._index = StreamIndex(files, key.rpartition("/")[0])

    def publish(self, unit: NewUnit, *, replace: bool) -> None:
        """Write a unit; `replace` says whether one is there.

        Raises:
            AlreadyExists: another process took over.
            DamagedStore: what was read back is not what was written.
        """
        with self._or_nothing():
            if self._claim.taken_over:
                clear(self._files, in_staging(self._key, NEW))
            if replace:
                with self.staged(unit) as sent:
                    self.hide()
                    self.place(sent)
            else:
                clear(self._files, self._key)
                self._show(self._send(unit, self._key).document)
        if not self._claim.ours():  # taken for dead in the very last moment
            self._index.drop()
            if self._damaged():
                self._files.delete(self._name)
                raise not_as_written(self._where)

    @property
    def _where(self) -> str:
        return f"{self._files.url}: {self._key}"

    def _send(self, unit: NewUnit, folder: str) -> SentUnit:
        """Write the files of a unit into a folder, all but the one that makes it visible, and read
        them back."""
        document = b""
        for files in unit.batches():
            batch = dict(files)
            document = batch.pop(ZARR_JSON, document)
            if batch:
                self._files.write_many({join(folder, name): value for name, value in batch.items()})
                self._claim.renew()
        try:
            found, _ = opened(self._files, folder, document, self._claim.renew)
            require_written(found, unit.arrays, self._where)
        except DamagedStore as error:
            raise not_as_written(self._where) from error
        return SentUnit(document, unit_of(document, self._where)[1])

    @contextmanager
    def staged(self, unit: NewUnit) -> Iterator[SentUnit]:
        """A unit's files lie in staging, checked, until the context ends."""
        staged = in_staging(self._key, NEW)
        try:
            yield self._send(unit, staged)
        finally:
            with suppress(AntcacheError):  # what is left there is found by the next writer
                clear(self._files, staged)

    def hide(self) -> None:
        """Take the unit that is there out of sight; nothing of it is removed yet."""
        self._index.drop()
        self._files.delete(self._name)

    def place(self, sent: SentUnit) -> None:
        """Put what is staged in the place of the unit that is hidden, and show it."""
        staged = in_staging(self._key, NEW)
        clear(self._files, self._key, keep=sent.hashes)
        names = {join(staged, name): join(self._key, name) for name in sent.hashes}
        if not self._files.copy_many(names):
            self._carry(staged, sent.hashes)
        if dict(self._digests(sent.hashes)) != sent.hashes:
            raise not_as_written(self._where)
        self._claim.renew()
        self._show(sent.document)

    def _carry(self, staged: str, names: Collection[str]) -> None:
        """Write anew what is staged, on a server that copies nothing."""
        sizes = self._files.sizes(staged)
        for batch in batches(names, lambda name: sizes.get(name, 0)):
            found = self._files.read_many(join(staged, name) for name in batch)
            there = {n: raw for n, raw in zip(batch, found, strict=True) if raw is not None}
            self._files.write_many({join(self._key, name): raw for name, raw in there.items()})
            self._claim.renew()

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
        return bool(damaged_parts(lambda: self._files.read(self._name), self._digests))

    def _digests(self, names: Collection[str]) -> Iterable[tuple[str, str]]:
        return self._files.digests(self._key, names, uncounted)

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


def clear(files: RemoteFiles, folder: str, keep: Collection[str] = ()) -> None:
    """Delete what is in a folder, but for some names."""
    for name in files.sizes(folder):
        if name not in keep:
            files.delete(join(folder, name))
