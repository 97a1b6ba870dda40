"""How groups of a store in a local folder are written: attributes, and several units at once.

Promise: a group appears with its attributes or not at all; of several processes that create it, one
does, and all learn what it says. Units that are replaced together change places with the old ones
in one step: a reader, another process or the next run sees all of the old or all of the new,
whenever the writer is killed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from antcache.disk import exchange, flush, flush_one, make_folders, rename_new
from antcache.errors import AlreadyExists
from antcache.store.backend import Attributes
from antcache.store.format import STAGING, Arrays, digest
from antcache.store.local.tree import FolderTree


class FolderGroups(FolderTree):
    """The part of `FolderBackend` that writes groups."""

    @abstractmethod
    def write_checked(
        self, path: Path, key: str, arrays: Arrays, expected: Attributes, *, compressed: bool
    ) -> None:
        """Write the unit `key` at `path`, which nobody else knows, and read it back."""

    @abstractmethod
    def _writing(self, key: str) -> AbstractContextManager[None]:
        """Turn what the disk says into our error."""

    @abstractmethod
    def _hold(self, name: str, *, wait: bool = False) -> AbstractContextManager[bool]:
        """Hold the lock `name` of the store."""

    @abstractmethod
    def _staging(self) -> AbstractContextManager[Path]:
        """A folder of our own on the store's disk, removed afterwards whatever happens."""

    def create(self, attributes: Attributes) -> None:
        """See `Backend`."""
        with self._writing(""):
            make_folders(self.root)
        with self._changing(""):  # a process that makes one of another kind takes the same lock
            if any(path.name != STAGING for path in self.root.iterdir()):
                raise AlreadyExists("another process has just made a store here", where=self.root)
            self._set_group_text("", self.document("", attributes), new=True)

    def set_group_attributes(self, key: str, attributes: Attributes) -> None:
        """See `Backend`."""
        if self._says(key, attributes):
            return
        self._make_above(key)
        with self._changing(key):
            if not self._says(key, attributes):  # no other process changes them from here on
                new = {**self.group_attributes(key), **attributes}
                self.set_group_text(key, self.document(key, new))

    def add_group_attributes(self, key: str, attributes: Attributes) -> Attributes:
        """See `Backend`; of two the first one's stay even where there are no locks."""
        self._make_above(key)
        while True:
            there = self.group_text(key) is not None
            old = self.group_attributes(key)
            new = {**old, **{k: v for k, v in attributes.items() if old.get(k) is None}}
            if there and new == old:
                return old
            with self._changing(key), contextlib.suppress(AlreadyExists):
                if self.group_attributes(key) == old:
                    self._set_group_text(key, self.document(key, new), new=not there)

    def _make_above(self, key: str) -> None:
        above, _, _ = key.rpartition("/")
        if above:  # a hierarchy has no gaps for plain readers
            self.set_group_attributes(above, {})

    @contextlib.contextmanager
    def _changing(self, key: str) -> Iterator[None]:
        """Read and change the attributes of a group while no other process does."""
        with contextlib.ExitStack() as stack:
            with self._writing(key):
                stack.enter_context(self._hold(digest(b"group ", key.encode()), wait=True))
            yield

    @contextlib.contextmanager
    def alone(self, key: str) -> Iterator[None]:
        """See `Backend`; whoever does it is waited for."""
        with contextlib.ExitStack() as stack:
            with self._writing(key):
                stack.enter_context(self._hold(digest(b"alone ", key.encode()), wait=True))
            yield

    def _says(self, key: str, attributes: Attributes) -> bool:
        """Whether the group `key` is there with these attributes, and perhaps more."""
        old = self.group_attributes(key)
        return {**old, **attributes} == old and self.group_text(key) is not None

    def set_group_text(self, key: str, text: bytes | None) -> None:
        """See `Backend`."""
        if text is not None:
            self._set_group_text(key, text)
            return
        folder = self.root / key
        with self._writing(key), self._staging():
            (folder / self.group_file).unlink(missing_ok=True)
            if folder.is_dir():
                flush_one(folder)
            with contextlib.suppress(OSError):  # something of others may be in it
                folder.rmdir()

    def _set_group_text(self, key: str, text: bytes, *, new: bool = False) -> None:
        """`set_group_text`; one that is to be `new` and is there already is `AlreadyExists`."""
        folder = self.root / key
        with self._writing(key), self._staging() as staging:
            staged = staging / "group"
            staged.mkdir()
            (staged / self.group_file).write_bytes(text)
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
        with self._writing(key), self._staging() as staging:
            staged = staging / "group"
            staged.mkdir()
            (staged / self.group_file).write_bytes(self.document(key, group))
            for name, (arrays, own) in units.items():
                unit = f"{key}/{name}"
                expected = self.described(unit, arrays, own, group)
                path = staged / self.location(unit).name
                self.write_checked(path, unit, arrays, expected, compressed=False)
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
