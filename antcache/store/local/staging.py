"""Staging: where a store in a local folder is written, and the locks that are beside it.

Promise: what a killed writer left in staging is cleared away by the next one. What lies in staging
belongs to whoever holds the lock beside it: `<name>.lock` is locked before `<name>` is made, and
let go after `<name>` has been removed. A unit that had stepped aside for one that did not come is
put back. The store itself is never made anew.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from antcache.files.disk import remove_folder
from antcache.files.locks import hold
from antcache.store.format import STAGING, is_key
from antcache.store.reading.inside import FOLDER, Inside

LOCK = ".lock"
REPLACED = "replaced,"
"""How the name of a unit in staging begins that steps aside for a new one; its key follows."""


class StagingFolder:
    """The staging folder of a store.

    Args:
        root: folder of the store.
        location: gives the place of a unit by its key.
    """

    def __init__(self, root: Path, location: Callable[[str], Path]) -> None:
        self._root = root
        self._folder = root / STAGING
        self._location = location

    @contextmanager
    def hold(self, name: str, *, wait: bool = False) -> Iterator[bool]:
        """Hold the lock `name` of the store, see `locks.hold`."""
        with ExitStack() as stack:
            stack.callback(_remove_if_empty, self._folder)
            while True:
                with suppress(FileExistsError):  # `exist_ok` would look for it again
                    self._folder.mkdir()
                try:
                    ours = stack.enter_context(hold(self._folder / f"{name}{LOCK}", wait=wait))
                    break
                except FileNotFoundError:
                    continue  # another writer was done and cleared up, or the store is gone
            yield ours

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A folder of our own on the store's disk, removed afterwards whatever happens."""
        while True:
            name = uuid.uuid4().hex
            with self.hold(name) as ours:
                if not ours:
                    continue  # another writer took it for a killed one's
                folder = self._folder / name
                try:
                    self._make(folder)
                    self._remove_leftovers()
                    yield folder
                finally:
                    self._remove(folder)
                return

    def _make(self, folder: Path) -> None:
        """Make a folder in staging. Where there are no locks nothing of ours lies there before, and
        another writer may clear staging away at any moment."""
        while True:
            try:
                folder.mkdir()
                return
            except FileNotFoundError:
                with suppress(FileExistsError):
                    self._folder.mkdir()  # fails if the store is gone

    def _remove_leftovers(self) -> None:
        """Remove what killed writers left: whatever nobody holds."""
        for path in self._folder.iterdir():
            if path.is_symlink():  # nobody's: followed, it would lead anywhere
                path.unlink(missing_ok=True)
        for name in {path.name.removesuffix(LOCK) for path in self._folder.iterdir()}:
            with (
                suppress(OSError),  # what is not ours to remove, say another user's
                hold(self._folder / f"{name}{LOCK}", without=False) as ours,
            ):
                if ours:
                    self._remove(self._folder / name)

    def _remove(self, path: Path) -> None:
        """Remove what lies in staging, after putting back a unit that stepped aside for nothing."""
        if path.is_dir() and not path.is_symlink():
            for aside in path.glob(f"{REPLACED}*"):
                self._put_back(aside)
            remove_folder(path)  # follows no links
        else:
            path.unlink(missing_ok=True)

    def _put_back(self, aside: Path) -> None:
        """Put a unit that stepped aside in its place, if that is in the store, and empty."""
        key = aside.name.removeprefix(REPLACED).replace(",", "/")
        if is_key(key) and Inside(self._root).kind(key.rpartition("/")[0]) == FOLDER:
            target = self._location(key)
            if not os.path.lexists(target) and not aside.is_symlink():
                aside.rename(target)


def name_aside(key: str) -> str:
    """Name in staging of the unit `key` that steps aside for a new one; no key has a comma."""
    return REPLACED + key.replace("/", ",")


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):  # other writers may still be in it
        folder.rmdir()
