"""What both backends on a local disk share: staging, publishing by one rename, claims.

Promise: a unit is written under a staging name, read back, flushed to the disk, and made visible by
one rename; a group appears with its attributes or not at all. What a killed writer left in staging
is swept away by the next one. What lies in staging belongs to whoever holds the lock beside it:
`<name>.lock` is locked before `<name>` is made, and let go after `<name>` has been removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import uuid
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path

from antcache.disk import exchange, flush, flush_one
from antcache.errors import AlreadyExists, AntcacheError, DamagedStore, MissingKey, WriteFailed
from antcache.locks import hold
from antcache.store.backend import (
    UNREADABLE,
    Attributes,
    Count,
    Unit,
    differing,
    lost,
    refused,
)
from antcache.store.folder_groups import FolderGroups
from antcache.store.format import MARK, STAGING, Arrays, digest
from antcache.store.location import Location
from antcache.store.seal import attributes_of, intact, mended

LOCK = ".lock"
REPLACED = "replaced,"
"""How the name of a unit in staging begins that steps aside for a new one; its key follows."""

GROUPS = ("labels", "features", "targets")
MARK_BYTES = 1024
"""A damaged root that is longer is not looked into for our mark; ours are a quarter of that."""

PIECE_BYTES = 1 << 20


class FolderBackend(FolderGroups):
    """A store in a local folder; `suffix` is what a unit's name ends in, `group_file` holds the
    attributes of a group."""

    suffix: str

    @abstractmethod
    def _write(self, path: Path, arrays: Arrays, attributes: Attributes, compressed: bool) -> None:
        """Write a unit at `path`, which nobody else knows."""

    @abstractmethod
    def _open_at(self, path: Path) -> Unit:
        """Open the unit at `path`."""

    @abstractmethod
    def _damage_at(self, path: Path, count: Count) -> list[str]:
        """See `Backend.damage`."""

    def location(self, key: str) -> Path:
        """Where the unit `key` lies once it is published."""
        return self.root / f"{key}{self.suffix}"

    def has(self, key: str) -> bool:
        """See `Backend`."""
        path = self.location(key)
        return path.is_file() if self.suffix else path.is_dir()

    @classmethod
    def recognises(cls, root: Location) -> bool:
        """See `Backend`."""
        path = Path(root)
        if not path.is_dir():
            return False
        text = _text(path / cls.group_file) or b""
        if MARK in attributes_of(text):
            return True
        if intact(text):  # the file of something inside a store
            return False
        # A damaged mark is known by what it was, or by what lies beside it.
        beside = (_text(path / key / cls.group_file) or b"" for key in GROUPS)
        return any(b'"seal"' in each for each in beside) or (
            len(text) <= MARK_BYTES and MARK in attributes_of(mended(text) or b"")
        )

    def groups(self, key: str) -> list[str]:
        """See `Backend`."""
        folder = self.root / key
        if not folder.is_dir():
            return []
        found = (p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
        # A folder without attributes is damaged if it holds units, else none of ours.
        return sorted(
            p.name
            for p in found
            if (p / self.group_file).is_file() or self.units(f"{key}/{p.name}".lstrip("/"))
        )

    def group_text(self, key: str) -> bytes | None:
        """See `Backend`."""
        return _text(self.root / key / self.group_file)

    def group_attributes(self, key: str) -> Attributes:
        """See `Backend`."""
        text = self.group_text(key)
        if text is None and not self._holds(key):
            return {}
        if text is None or not intact(text):
            raise DamagedStore(
                "gone" if text is None else "not as it was written",
                where=self.root / key / self.group_file,
                hint="antcache store repair restores it",
            )
        return attributes_of(text)

    def group_damaged(self, key: str) -> bool:
        """See `Backend`."""
        text = self.group_text(key)
        return self._holds(key) if text is None else not intact(text)

    def _holds(self, key: str) -> bool:
        """Whether anything lies in the group `key`."""
        return bool(self.units(key) or self.groups(key))

    def sweep(self) -> None:
        """See `Backend`."""
        if (self.root / STAGING).is_dir():
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

    def damage(self, key: str, count: Count = lambda num_bytes: None) -> list[str]:
        """See `Backend`."""
        return self._damage_at(self.location(key), count)

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
                self._sweep(folder.parent)
                try:
                    folder.mkdir()
                    yield folder
                finally:
                    self._clear(folder)
                return

    def _sweep(self, staging: Path) -> None:
        """Remove what killed writers left: whatever nobody holds."""
        for name in {path.name.removesuffix(LOCK) for path in staging.iterdir()}:
            with (
                contextlib.suppress(OSError),  # what is not ours to remove, say another user's
                hold(staging / f"{name}{LOCK}", without=False) as ours,
            ):
                if ours:
                    self._clear(staging / name)

    def _clear(self, path: Path) -> None:
        """Remove what lies in staging, after putting back a unit that stepped aside for nothing."""
        for aside in path.glob(f"{REPLACED}*"):
            target = self.location(aside.name.removeprefix(REPLACED).replace(",", "/"))
            if not target.exists():
                aside.rename(target)
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # other writers may still be in it
        folder.rmdir()


def file_digest(path: Path, count: Count, *, start: int = 0) -> str:
    """`digest` of a file from byte `start`, read in pieces."""
    total = hashlib.blake2b(digest_size=16)
    piece = memoryview(bytearray(PIECE_BYTES))
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        while num_bytes := file.readinto(piece):
            total.update(piece[:num_bytes])
            count(num_bytes)
    return total.hexdigest()


def _text(path: Path) -> bytes | None:
    """What is in a small file, None if it is not there."""
    try:
        return path.read_bytes()
    except OSError as error:
        if lost(error):
            return None
        raise refused(path, error) from error
