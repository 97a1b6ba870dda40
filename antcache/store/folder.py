"""What both backends on a local disk share: staging, publishing by one rename, claims.

Promise: a unit is written under a staging name, flushed to the disk, read back, and made visible by
one rename. What a killed writer left in staging is swept away by the next one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path

from antcache.errors import AlreadyExists, AntcacheError, DamagedStore, MissingKey, WriteFailed
from antcache.store.backend import Attributes, Backend, Unit, differing
from antcache.store.format import CHECKSUMS, Arrays, checksums
from antcache.store.locks import exchange, hold
from antcache.store.seal import attributes_of, intact

STAGING = ".staging"


class FolderBackend(Backend):
    """A store in a local folder; `suffix` is what a unit's name ends in, `group_file` holds the
    attributes of a group."""

    root: Path
    suffix: str
    group_file: str

    @abstractmethod
    def _document(self, attributes: Attributes) -> bytes:
        """Text of a group's `group_file`."""

    @abstractmethod
    def _write(self, path: Path, arrays: Arrays, attributes: Attributes, compressed: bool) -> None:
        """Write a unit at `path`, which nobody else knows."""

    @abstractmethod
    def _open_at(self, path: Path) -> Unit:
        """Open the unit at `path`."""

    @abstractmethod
    def _damage_at(self, path: Path) -> list[str]:
        """See `Backend.damage`."""

    def location(self, key: str) -> Path:
        """Where the unit `key` lies once it is published."""
        return self.root / f"{key}{self.suffix}"

    def has(self, key: str) -> bool:
        """See `Backend`."""
        return self.location(key).exists()

    def create(self) -> None:
        """See `Backend`."""
        with self._writing(""):
            self.root.mkdir(parents=True, exist_ok=True)

    def group_attributes(self, key: str) -> Attributes:
        """See `Backend`."""
        path = self.root / key / self.group_file
        try:
            text = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return {}
        if not intact(text):
            raise DamagedStore(
                "not as it was written", where=path, hint="antcache store repair restores it"
            )
        return attributes_of(text)

    def group_damaged(self, key: str) -> bool:
        """See `Backend`."""
        path = self.root / key / self.group_file
        return path.is_file() and not intact(path.read_bytes())

    def set_group_attributes(self, key: str, attributes: Attributes) -> None:
        """See `Backend`."""
        old = self.group_attributes(key)
        new = {**old, **attributes}
        folder = self.root / key
        if new == old and (folder / self.group_file).exists():
            return
        with self._writing(key), self._staging() as staging:
            staged = staging / self.group_file
            staged.write_bytes(self._document(new))
            _flush(staged)
            self._make_folder(folder)
            staged.replace(folder / self.group_file)
            _flush_one(folder)

    def publish(
        self,
        key: str,
        arrays: Arrays,
        attributes: Attributes,
        *,
        overwrite: bool = False,
        compressed: bool = False,
    ) -> None:
        """See `Backend`."""
        target = self.location(key)
        if target.exists() and not overwrite:
            raise AlreadyExists("already in the store", where=self.where(key))
        expected = {**attributes, CHECKSUMS: checksums(arrays)}
        with self._writing(key), self._staging() as staging:
            staged = staging / f"unit{self.suffix}"
            self._write(staged, arrays, expected, compressed)
            written, _ = self._open_at(staged)
            if differing(written, expected):
                raise DamagedStore(
                    "what was read back is not what was written",
                    where=self.where(key),
                    hint="check the disk; nothing was published",
                )
            _flush(staged)
            self._make_folder(target.parent)
            if overwrite and target.exists():
                exchange(staged, target)
            else:
                self._rename(staged, target)
            _flush_one(target.parent)

    def _rename(self, staged: Path, target: Path) -> None:
        """Publish `staged` as `target`, unless another process was faster."""
        try:
            staged.rename(target)  # a folder is never renamed over one that holds something
        except OSError as error:
            if target.exists():
                raise AlreadyExists("already in the store", where=target) from error
            raise

    def remove(self, key: str) -> None:
        """See `Backend`."""
        if not self.has(key):
            raise MissingKey("not in the store", where=self.where(key))
        with self._writing(key), self._staging() as staging:
            self.location(key).rename(staging / f"removed{self.suffix}")

    @contextlib.contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """See `Backend`."""
        with self._writing(key):
            folder = self.root / STAGING
            self._make_folder(folder)
            path = folder / (key.replace("/", ",") + ".claim")
            path.touch()
        with hold(path) as ours:
            try:
                yield ours
            finally:
                if ours:
                    path.unlink(missing_ok=True)

    def damage(self, key: str) -> list[str]:
        """See `Backend`."""
        return self._damage_at(self.location(key))

    def _open(self, key: str) -> Unit:
        return self._open_at(self.location(key))

    @contextlib.contextmanager
    def _writing(self, key: str) -> Iterator[None]:
        """Turn what the disk says into our error."""
        try:
            yield
        except AntcacheError:
            raise
        except OSError as error:
            raise WriteFailed(
                f"can't be written ({error.strerror or error})",
                where=self.where(key),
                hint="what was published before is intact; run the command again when the disk "
                "has room and allows it",
            ) from error

    def _make_folder(self, folder: Path) -> None:
        """Create a folder in the store, but never the store itself: it may have been removed."""
        missing = []
        while folder != self.root and not folder.exists():
            missing.append(folder)
            folder = folder.parent
        for each in reversed(missing):
            each.mkdir(exist_ok=True)

    @contextlib.contextmanager
    def _staging(self) -> Iterator[Path]:
        """A folder of our own on the store's disk, removed afterwards whatever happens."""
        staging = self.root / STAGING
        while True:
            folder = staging / uuid.uuid4().hex
            self._make_folder(staging)
            try:
                folder.mkdir()
            except FileNotFoundError:
                if not self.root.exists():
                    raise
                continue  # another writer was done and cleared up
            with hold(folder) as ours:
                if not ours:
                    continue  # swept away before we had locked it
                try:
                    _sweep(staging)
                    yield folder
                finally:
                    shutil.rmtree(folder, ignore_errors=True)
                    with contextlib.suppress(OSError):  # other writers may still be in it
                        staging.rmdir()
                return


def _sweep(staging: Path) -> None:
    """Remove what killed writers left: whatever nobody holds."""
    for path in staging.iterdir():
        with hold(path) as ours:
            if not ours:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Wait until a file, or all that is in a folder, is on the disk."""
    for folder, _, files in os.walk(path):
        for each in (*files, "."):
            _flush_one(Path(folder) / each)
    if not path.is_dir():
        _flush_one(path)


def _flush_one(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
