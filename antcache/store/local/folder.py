"""How a store in a local folder is written: units by one rename, several of a group in one step.

Promise: a unit is written in staging, read back, flushed to the disk, and made visible by one
rename; a group appears with its attributes or not at all; of several processes that create it, one
does, and all learn what it says. Units that are replaced together change places with the old ones
in one step: a reader, another process or the next run sees all of the old or all of the new,
whenever the writer is killed.
"""

from __future__ import annotations

import errno
import os
import shutil
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

from antcache.errors import AlreadyExists, AntcacheError, DamagedStore, ReadFailed, WriteFailed
from antcache.files import found_at
from antcache.files.disk import exchange, flush, flush_one, make_folders, rename_new
from antcache.store.backend import Attributes
from antcache.store.faults import UNREADABLE, require_written
from antcache.store.format import STAGING, Arrays, digest, is_group
from antcache.store.local.staging import StagingFolder, name_aside
from antcache.store.local.tree import FolderTree


class FolderBackend(FolderTree):
    """A store in a local folder that is written as well."""

    retry_when = "the disk has room and allows it"

    @abstractmethod
    def _write(self, path: Path, arrays: Arrays, attributes: Attributes, compressed: bool) -> None:
        """Write a unit at `path`, which nobody else knows."""

    @property
    def staging(self) -> StagingFolder:
        """Where it is written."""
        return StagingFolder(self.root, self.location)

    @contextmanager
    def _writing(self, key: str) -> Iterator[None]:
        """Nothing is written outside the store: what leads out of it is refused."""
        above = key if is_group(key) else key.rpartition("/")[0]
        for name in (STAGING, above):
            self.inside.require_no_link(name)
        with super()._writing(key):
            yield

    def _failed(self, key: str, error: Exception, reason: str) -> WriteFailed:
        if isinstance(error, FileNotFoundError) and not self.root.exists():
            return WriteFailed("the store is gone", where=self.where(key))
        return super()._failed(key, error, reason)

    @contextmanager
    def _holding(
        self, what: str, key: str, *, wait: bool, written: str | None = None
    ) -> Iterator[bool]:
        """Hold the lock for `what` is done with `key`; whether it is ours. A disk that refuses the
        lock refuses to write `written`, or `key`."""
        with ExitStack() as stack:
            with self._writing(key if written is None else written):
                name = digest(f"{what} {key}".encode())
                ours = stack.enter_context(self.staging.hold(name, wait=wait))
            yield ours

    def claim(self, key: str) -> AbstractContextManager[bool]:
        """See `Backend`."""
        return self._holding("claim", key, wait=False)

    def exclusively(self, key: str) -> AbstractContextManager[object]:
        """See `Backend`; whoever does it is waited for."""
        # Nothing of the group is written yet, and perhaps never: soft targets need it to stay.
        return self._holding("alone", key, wait=True, written="")

    def remove_foreign(self, name: str) -> None:
        """See `Backend`."""
        if name not in self.foreign_entries():
            raise KeyError(name)
        above, _, last = name.rpartition("/")
        with super()._writing(name), self.inside.at(above) as folder:
            os.unlink(last, dir_fd=folder.handle)

    def remove_leftovers(self) -> None:
        """See `Backend`."""
        if self.inside.kind(STAGING) is not None:
            with self._writing(""), self.staging.folder():
                pass  # whoever takes a folder there removes them

    # Groups

    def create(self, attributes: Attributes) -> None:
        """See `Backend`."""
        with self._writing(""):
            make_folders(self.root)
        # A process that makes one of another kind takes the same lock.
        with self._holding("group", "", wait=True):
            if found_at(self.root, (STAGING,)):
                raise AlreadyExists("another process has just made a store here", where=self.root)
            self._write_group("", self.sealed_group("", attributes), new=True)

    def _swap_group_text(self, key: str, text: bytes, *, was: bytes | None) -> bool:
        """See `Backend`; of two that create a group one does even where there are no locks."""
        with self._holding("group", key, wait=True), suppress(AlreadyExists):
            if self.group_text(key) == was:
                self._write_group(key, text, new=was is None)
                return True
        return False

    def set_group_text(self, key: str, text: bytes | None) -> None:
        """See `Backend`."""
        if text is not None:
            self._write_group(key, text)
            return
        folder = self.root / key
        with self._writing(key), self.staging.folder():
            (folder / self.group_file).unlink(missing_ok=True)
            if folder.is_dir():
                flush_one(folder)
            with suppress(OSError):  # something of others may be in it
                folder.rmdir()

    def _write_group(self, key: str, text: bytes, *, new: bool = False) -> None:
        """Write the text of a group; one that is to be `new` and is there is `AlreadyExists`."""
        folder = self.root / key
        with self._writing(key), self.staging.folder() as staging:
            staged = self._staged_group(staging, text)
            flush(staged)
            try:
                if not folder.is_dir():
                    staged.rename(folder)
                    folder = folder.parent
                elif new:
                    rename_new(staged / self.group_file, folder / self.group_file)
                else:
                    (staged / self.group_file).replace(folder / self.group_file)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
                raise AlreadyExists("already in the store", where=self.where(key)) from error
            flush_one(folder)

    def _staged_group(self, staging: Path, text: bytes) -> Path:
        """A folder with the text of a group."""
        staged = staging / "group"
        staged.mkdir()
        (staged / self.group_file).write_bytes(text)
        return staged

    # Units

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
        expected = self.unit_attributes(key, arrays, attributes)
        with self._writing(key), self.staging.folder() as staging:
            staged = staging / f"unit{self.suffix}"
            self._write_checked(staged, key, arrays, expected, compressed=compressed)
            flush(staged)
            if overwrite and self.has(key):
                self._require_fetched(key)
                self._replace(staged, key)
            else:
                self._rename(staged, target)
            flush_one(target.parent)

    def _write_checked(
        self, path: Path, key: str, arrays: Arrays, expected: Attributes, *, compressed: bool
    ) -> None:
        """Write the unit `key` at `path`, which nobody else knows, and read it back."""
        self._write(path, arrays, expected, compressed)
        written, _ = self._open_at(path)
        require_written(written, arrays, self.where(key))

    def _require_fetched(self, key: str) -> None:
        """Raise `ReadFailed` if a Git LFS pointer stands in the unit `key`, which is about to be
        replaced; what is damaged may be."""
        with suppress(*UNREADABLE):
            self._open(key)

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
            # Two steps; staging takes back the first if the second does not come.
            target.rename(staged.with_name(name_aside(key)))
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

    def _remove(self, key: str) -> None:
        path = self.location(key)
        with self.staging.folder() as staging:
            path.rename(staging / f"removed{self.suffix}")
            flush_one(path.parent)

    # Several units at once

    def publish_group(
        self, key: str, attributes: Attributes, units: Mapping[str, tuple[Arrays, Attributes]]
    ) -> None:
        """See `Backend`; in one step, unless nothing is replaced in a group that is there."""
        for name in units:
            self._require_fetched(f"{key}/{name}")
        there = self.group_text(key) is not None
        replaces = not there or any(self.has(f"{key}/{name}") for name in units)
        if not (replaces and self._switch(key, attributes, units)):
            super().publish_group(key, attributes, units)

    def _switch(
        self, key: str, attributes: Attributes, units: Mapping[str, tuple[Arrays, Attributes]]
    ) -> bool:
        """Put the group together in staging, and let it change places with what is there.

        False where folders can't change places in one step; nothing was changed then.
        """
        folder = self.root / key
        group = {**self.group_attributes(key), **attributes}
        with self._writing(key), self.staging.folder() as staging:
            staged = self._staged_group(staging, self.sealed_group(key, group))
            for name, (arrays, own) in units.items():
                unit = f"{key}/{name}"
                expected = self.unit_attributes(unit, arrays, own, group)
                path = staged / self.location(unit).name
                self._write_checked(path, unit, arrays, expected, compressed=False)
            if os.path.lexists(folder):
                _copy_rest(folder, staged)
            flush(staged)
            if not os.path.lexists(folder):
                staged.rename(folder)
            elif not exchange(staged, folder):
                return False
            flush_one(folder.parent)
        return True


def _copy_rest(folder: Path, staged: Path) -> None:
    """Copy into `staged` what lies in `folder` and is not in it yet; links stay links."""
    for path in folder.iterdir():
        copy = staged / path.name
        if os.path.lexists(copy):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, copy, symlinks=True)
        else:
            shutil.copy2(path, copy, follow_symlinks=False)
