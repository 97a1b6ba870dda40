"""What both backends on a local disk share: staging, publishing by one rename, claims.

Promise: a unit is written under a staging name, read back, flushed to the disk, and made visible by
one rename; a group appears with its attributes or not at all. What a killed writer left in staging
is swept away by the next one. What lies in staging belongs to whoever holds the lock beside it:
`<name>.lock` is locked before `<name>` is made, and let go after `<name>` has been removed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path

from antcache.disk import exchange, flush, flush_one
from antcache.errors import (
    AlreadyExists,
    AntcacheError,
    DamagedStore,
    MissingKey,
    ReadFailed,
    WriteFailed,
)
from antcache.locks import hold
from antcache.store.backend import Attributes, differing
from antcache.store.faults import UNREADABLE
from antcache.store.format import STAGING, Arrays, digest, is_group, is_key
from antcache.store.local.folder_groups import FolderGroups
from antcache.store.reading.inside import FOLDER

LOCK = ".lock"
REPLACED = "replaced,"
"""How the name of a unit in staging begins that steps aside for a new one; its key follows."""


class FolderBackend(FolderGroups):
    """A store in a local folder that is written as well."""

    @abstractmethod
    def _write(self, path: Path, arrays: Arrays, attributes: Attributes, compressed: bool) -> None:
        """Write a unit at `path`, which nobody else knows."""

    def discard(self, name: str) -> None:
        """See `Backend`."""
        if name not in self.strange():
            raise KeyError(name)
        above, _, last = name.rpartition("/")
        with self._converting(name), self.inside.at(above) as folder:
            os.unlink(last, dir_fd=folder.handle)

    def sweep(self) -> None:
        """See `Backend`."""
        if self.inside.kind(STAGING) is not None:
            with self._writing(""), self._staging():
                pass  # whoever takes a folder there sweeps

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
        if not overwrite and os.path.lexists(target):
            raise self._refusal(target)
        expected = self.described(key, arrays, attributes)
        with self._writing(key), self._staging() as staging:
            staged = staging / f"unit{self.suffix}"
            self.write_checked(staged, key, arrays, expected, compressed=compressed)
            flush(staged)
            if overwrite and self.has(key):
                self._require_fetched(key)
                self._replace(staged, key)
            else:
                self._rename(staged, target)
            flush_one(target.parent)

    def write_checked(
        self, path: Path, key: str, arrays: Arrays, expected: Attributes, *, compressed: bool
    ) -> None:
        """Write the unit `key` at `path`, which nobody else knows, and read it back.

        Raises:
            DamagedStore: what was read back is not what was written.
        """
        self._write(path, arrays, expected, compressed)
        written, _ = self._open_at(path)
        if differing(written, expected):
            raise DamagedStore(
                "what was read back is not what was written",
                where=self.where(key),
                hint="check the disk; nothing was published",
            )

    def _rename(self, staged: Path, target: Path) -> None:
        """Publish `staged` as `target`, unless another process was faster."""
        try:
            staged.rename(target)  # a folder is never renamed over one that holds something
        except OSError as error:
            if os.path.lexists(target):
                raise self._refusal(target) from error
            raise

    def _replace(self, staged: Path, key: str) -> None:
        """Publish `staged` in place of the unit `key`, which leaves for staging."""
        target = self.location(key)
        if staged.is_file():
            staged.replace(target)
        elif not exchange(staged, target):
            # Two steps; `_clear` takes back the first if the second does not come.
            target.rename(staged.with_name(REPLACED + key.replace("/", ",")))
            staged.rename(target)

    def _refusal(self, target: Path) -> AntcacheError:
        """Why nothing can be published at `target`: a unit is there, or something else."""
        try:
            self._open_at(target)
        except ReadFailed as error:
            return error
        except UNREADABLE:
            return DamagedStore(
                "something that is no readable unit is in the way",
                where=target,
                hint="antcache store repair drops damaged units; remove anything else yourself",
            )
        return AlreadyExists("already in the store", where=target)

    def remove(self, key: str) -> None:
        """See `Backend`."""
        if not self.has(key):
            raise MissingKey("not in the store", where=self.where(key))
        path = self.location(key)
        with self._writing(key), self._staging() as staging:
            path.rename(staging / f"removed{self.suffix}")
            flush_one(path.parent)

    @contextlib.contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """See `Backend`."""
        with contextlib.ExitStack() as stack:
            with self._writing(key):
                ours = stack.enter_context(self._hold(digest(b"claim ", key.encode())))
            yield ours

    @contextlib.contextmanager
    def _writing(self, key: str) -> Iterator[None]:
        """Write at `key`, and nowhere outside the store: what leads out of it is refused."""
        above = key if is_group(key) else key.rpartition("/")[0]
        for name in (STAGING, above):
            self.inside.require_no_link(name)
        with self._converting(key):
            yield

    @contextlib.contextmanager
    def _converting(self, key: str) -> Iterator[None]:
        """Turn what the disk says into our error."""
        try:
            yield
        except AntcacheError:
            raise
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not self.root.exists():
                raise WriteFailed("the store is gone", where=self.where(key)) from error
            raise WriteFailed(
                f"can't be written ({error.strerror or error})",
                where=self.where(key),
                hint="what was published before is intact; run the command again when the disk "
                "has room and allows it",
            ) from error

    @contextlib.contextmanager
    def _hold(self, name: str, *, wait: bool = False) -> Iterator[bool]:
        """Hold the lock `name` of the store, see `hold`; the store itself is never made anew."""
        staging = self.root / STAGING
        with contextlib.ExitStack() as stack:
            stack.callback(_remove_if_empty, staging)
            while True:
                with contextlib.suppress(FileExistsError):  # `exist_ok` would look for it again
                    staging.mkdir()
                try:
                    ours = stack.enter_context(hold(staging / f"{name}{LOCK}", wait=wait))
                    break
                except FileNotFoundError:
                    continue  # another writer was done and cleared up, or the store is gone
            yield ours

    @contextlib.contextmanager
    def _staging(self) -> Iterator[Path]:
        """A folder of our own on the store's disk, removed afterwards whatever happens."""
        while True:
            name = uuid.uuid4().hex
            with self._hold(name) as ours:
                if not ours:
                    continue  # a sweeper took it for a killed process's
                folder = self.root / STAGING / name
                try:
                    self._make_staging(folder)
                    self._sweep(folder.parent)
                    yield folder
                finally:
                    self._clear(folder)
                return

    def _make_staging(self, folder: Path) -> None:
        """Make a folder in staging. Where there are no locks nothing of ours lies there before, and
        another writer may clear staging away at any moment."""
        while True:
            try:
                folder.mkdir()
                return
            except FileNotFoundError:
                with contextlib.suppress(FileExistsError):
                    folder.parent.mkdir()  # fails if the store is gone

    def _sweep(self, staging: Path) -> None:
        """Remove what killed writers left: whatever nobody holds."""
        for path in staging.iterdir():
            if path.is_symlink():  # nobody's: followed, it would lead anywhere
                path.unlink(missing_ok=True)
        for name in {path.name.removesuffix(LOCK) for path in staging.iterdir()}:
            with (
                contextlib.suppress(OSError),  # what is not ours to remove, say another user's
                hold(staging / f"{name}{LOCK}", without=False) as ours,
            ):
                if ours:
                    self._clear(staging / name)

    def _clear(self, path: Path) -> None:
        """Remove what lies in staging, after putting back a unit that stepped aside for nothing."""
        if path.is_dir() and not path.is_symlink():
            for aside in path.glob(f"{REPLACED}*"):
                self._put_back(aside)
            shutil.rmtree(path, ignore_errors=True)  # follows no links
        else:
            path.unlink(missing_ok=True)

    def _put_back(self, aside: Path) -> None:
        """Put a unit that stepped aside in its place, if that is in the store, and empty."""
        key = aside.name.removeprefix(REPLACED).replace(",", "/")
        if is_key(key) and self.inside.kind(key.rpartition("/")[0]) == FOLDER:
            target = self.location(key)
            if not os.path.lexists(target) and not aside.is_symlink():
                aside.rename(target)


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # other writers may still be in it
        folder.rmdir()
